"""The loop between a model and its figures, with a model that knows the answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from utils.data.config import load_data
from utils.data.index import Index
from utils.data.loading.loader import Batch, val_loader
from utils.data.scan import load_index
from utils.distributed import Ranks
from utils.evaluation.evaluate import Evaluation, Settings, evaluate
from utils.evaluation.metrics import Evaluator

CPU = torch.device("cpu")


class Oracle(nn.Module):
    """Finds exactly the labelled boxes; it is told the batch's labels by the loader that wraps it."""

    def __init__(self, nc: int) -> None:
        super().__init__()
        self.nc, self.seen, self.modes = nc, Tensor(), list[bool]()

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        assert x.dtype is torch.float32
        assert 0 <= float(x.min()) <= float(x.max()) <= 1
        out = torch.zeros(len(x), 50, 5 + self.nc)
        for i in range(len(x)):
            rows = self.seen[self.seen[:, 0] == i]
            k = len(rows)
            out[i, :k, :4] = rows[:, 2:6] * torch.tensor([x.shape[3], x.shape[2]] * 2)
            out[i, :k, 4] = 0.9
            out[i, torch.arange(k), 5 + rows[:, 1].long()] = 1.0
        return out

    augmented = forward

    @property
    def head(self) -> "Oracle":
        return self

    def maps(self, x: Tensor) -> list[Tensor]:
        return [self.forward(x)]

    def decode(self, maps: list[Tensor]) -> Tensor:
        return maps[0]


class Telling:
    """A loader that shows the oracle each batch's labels."""

    def __init__(self, loader: Any, oracle: Oracle, part: slice = slice(None)) -> None:
        self.batches, self.oracle = list(loader.epoch(0))[part], oracle

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, _: int) -> Any:
        for batch in self.batches:
            self.oracle.seen = batch.targets
            yield batch


@pytest.fixture
def index(tiny_dataset: Path) -> Index:
    return load_index(load_data(tiny_dataset), "train")


def run(index: Index, *, part: slice = slice(None), **options: Any) -> tuple[Evaluation, Oracle]:
    oracle = Oracle(index.nc)
    loader: Any = Telling(val_loader(index, imgsz=160, batch_size=3, workers=0), oracle, part)
    return evaluate(oracle, loader, index, device=CPU, **options), oracle  # type: ignore[arg-type]


def test_the_labels_measure_one(index: Index) -> None:
    (metrics, loss, speeds), oracle = run(index)
    assert (metrics.ap50, metrics.recall, metrics.precision) == pytest.approx((1, 1, 1), abs=1e-6)
    assert metrics.ap > 0.99  # the way to the batch and back rounds
    assert metrics.images == len(index)
    assert metrics.instances == len(index.annotations)
    assert loss is None
    assert set(speeds) == {"pre-process", "inference", "NMS"}
    assert not any(oracle.modes)
    assert oracle.training  # as it was before


def test_criterion_terms_are_means_over_batches(index: Index) -> None:
    terms = iter(range(100))

    def criterion(maps: Any, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        assert maps[0].dtype is torch.float32
        assert targets.shape[1] == 6
        return torch.zeros(()), {"box": torch.tensor(float(next(terms))), "obj": torch.tensor(2.0), "cls": torch.tensor(0.0)}

    (_, loss, _), _ = run(index, criterion=criterion)
    assert loss == {"box": pytest.approx(1.0), "obj": pytest.approx(2.0), "cls": 0}  # 3 batches: 0, 1, 2


@pytest.mark.parametrize("settings", [Settings(half=True), Settings(augment=True), Settings(hybrid=True)])
def test_other_ways_measure_the_same_here(index: Index, settings: Settings) -> None:
    (metrics, _, _), _ = run(index, settings=settings)
    assert metrics.ap50 == pytest.approx(1, abs=1e-6)


def test_class_filter_and_single_class(tiny_dataset: Path) -> None:
    data = load_data(tiny_dataset)
    cls = int(load_index(data, "train").annotations[0, 0])
    (metrics, _, _), _ = run(load_index(data, "train", classes=[cls]), settings=Settings(classes=[cls]))
    assert [c.index for c in metrics.per_class] == [cls]
    assert metrics.ap50 == pytest.approx(1, abs=1e-6)
    (metrics, _, _), _ = run(load_index(data, "train", single_cls=True), settings=Settings(single_cls=True))
    assert [(c.index, c.name) for c in metrics.per_class] == [(0, "item")]


def test_a_model_of_one_class_stands_for_the_chosen_ones(tiny_dataset: Path) -> None:
    index = load_index(load_data(tiny_dataset), "train", single_cls=True, classes=[1])
    (metrics, _, _), _ = run(index, settings=Settings(single_cls=True, classes=[1]))
    assert metrics.instances > 0
    assert metrics.ap50 == pytest.approx(1, abs=1e-6)


def test_labels_take_part_whatever_the_filter(tiny_dataset: Path) -> None:
    index = load_index(load_data(tiny_dataset), "train", single_cls=True, classes=[1])
    oracle = Oracle(2)  # finds all as class 0, which is not the chosen one
    loader: Any = Telling(val_loader(index, imgsz=160, batch_size=3, workers=0), oracle)
    metrics = evaluate(oracle, loader, index, Settings(single_cls=True, classes=[1], hybrid=True), device=CPU).metrics  # type: ignore[arg-type]
    assert metrics.ap50 == pytest.approx(1, abs=1e-6)


def test_ranks_return_the_whole(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank measures its batches; what the others send is merged."""
    other = Evaluator(index.names)
    run(index, part=slice(1, 3), evaluator=other)
    monkeypatch.setattr("utils.evaluation.evaluate.gather", lambda state, _ranks: [state, other.state()])
    (metrics, _, _), _ = run(index, part=slice(0, 1), ranks=Ranks(0, 2, 0))
    assert (metrics.images, metrics.instances) == (len(index), len(index.annotations))


def test_pictures(index: Index, tmp_path: Path) -> None:
    run(index, plots=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"val_batch{i}_{kind}.jpg" for i in range(3) for kind in ("labels", "pred")]


def test_odd_padding_is_halved_as_in_yolov5() -> None:
    from utils.evaluation.evaluate import _to_source
    from utils.images.letterbox import Letterbox

    box = Letterbox(source=(100, 101), shape=(128, 128), size=(100, 101), left=13, top=14)
    rows = _to_source(box, np.array([[33.5, 34, 43.5, 44, 0.5, 2]], np.float32))
    np.testing.assert_allclose(rows, [[20, 20, 30, 30, 0.5, 2]])


def test_batches_are_left_alone(index: Index) -> None:
    batch: Batch = next(val_loader(index, imgsz=160, batch_size=3, workers=0).epoch(0))
    before = batch.images.clone()
    oracle = Oracle(index.nc)
    loader: Any = Telling(type("One", (), {"epoch": lambda self, _: iter([batch])})(), oracle)
    evaluate(oracle, loader, index, device=CPU)  # type: ignore[arg-type]
    assert torch.equal(batch.images, before)
