"""Target assignment on cases worked out by hand."""

import torch

from utils.training.losses.assigners import assign

ANCHORS = torch.tensor([[1.0, 1.0], [4.0, 2.0]])


def target(cx: float, cy: float, w: float, h: float, cls: int = 0, image: int = 0) -> list[float]:
    """A row on a map of 10 x 10 cells, given in cells."""
    return [image, cls, cx / 10, cy / 10, w / 10, h / 10]


def cells(rows: list[list[float]], shape: tuple[int, int] = (10, 10)) -> set[tuple[int, ...]]:
    m = assign(torch.tensor(rows), ANCHORS, shape, 4.0)
    return {tuple(t) for t in torch.stack((m.image, m.anchor, m.row, m.column, m.cls), 1).tolist()}


def test_a_target_takes_its_cell_and_the_two_nearest_neighbours():
    # 3.25, 5.75: left of the middle of column 3, below the middle of row 5
    assert cells([target(3.25, 5.75, 0.9, 1.1, cls=7, image=2)]) == {(2, 0, 5, 3, 7), (2, 0, 5, 2, 7), (2, 0, 6, 3, 7)}


def test_box_is_relative_to_each_cell():
    m = assign(torch.tensor([target(3.25, 5.75, 0.9, 1.1)]), ANCHORS, (10, 10), 4.0)
    by_cell = {(int(r), int(c)): box for r, c, box in zip(m.row, m.column, m.box, strict=True)}
    torch.testing.assert_close(by_cell[5, 3], torch.tensor([0.25, 0.75, 0.9, 1.1]))
    torch.testing.assert_close(by_cell[5, 2], torch.tensor([1.25, 0.75, 0.9, 1.1]))
    torch.testing.assert_close(by_cell[6, 3], torch.tensor([0.25, -0.25, 0.9, 1.1]))


def test_a_middle_takes_one_cell_and_borders_are_not_crossed():
    assert cells([target(5.5, 5.5, 1, 1)]) == {(0, 0, 5, 5, 0)}
    assert cells([target(0.25, 9.75, 1, 1)]) == {(0, 0, 9, 0, 0)}


def test_ratio_of_sides_decides_the_anchor():
    assert {anchor for _, anchor, *_ in cells([target(5.5, 5.5, 3.9, 1.5)])} == {0, 1}
    assert {anchor for _, anchor, *_ in cells([target(5.5, 5.5, 4.1, 1.5)])} == {1}  # 4.1 is over four times anchor 0
    assert cells([target(5.5, 5.5, 1.1, 0.4)]) == {(0, 0, 5, 5, 0)}  # 2 / 0.4 = 5
    assert cells([target(5.5, 5.5, 20.0, 20.0)]) == set()


def test_rectangular_map_and_no_targets():
    m = assign(torch.tensor([[0, 1, 0.5, 0.5, 0.1, 0.2]]), ANCHORS, (5, 15), 4.0)  # centre 7.5, 2.5; 1.5 x 1.0 cells
    assert torch.stack((m.anchor, m.row, m.column)).T.tolist() == [[0, 2, 7], [1, 2, 7]]
    assert len(assign(torch.zeros(0, 6), ANCHORS, (5, 15), 4.0).cls) == 0
