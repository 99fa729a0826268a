"""Images in groups, by an expression or a table, and what cannot be grouped."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.compare.groups import image_groups
from utils.errors import UserError

PATHS = [Path(f"/data/images/val/{name}.jpg") for name in ("a_1", "b_1", "a_2", "c_1", "b_2")]


def test_an_expression_names_the_group() -> None:
    assert image_groups(r"/([a-z])_\d+\.jpg$", PATHS) == (0, 1, 0, 2, 1)
    assert image_groups(r"_\d", PATHS) == (0, 0, 1, 0, 1)  # without parentheses the whole match


def test_a_column_of_a_table_names_the_group(tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    table.write_text("image,slide,site\na_1.jpg,x,1\nb_1.jpg,y,1\nval/a_2.jpg,x,2\n/data/images/val/c_1.jpg,z,2\nb_2.jpg,x,2\n")
    assert image_groups(f"{table}:slide", PATHS) == (0, 1, 0, 2, 0)
    assert image_groups(f"{table}:site", PATHS) == (0, 0, 1, 1, 1)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("images", r"--group images: all 5 measured images are in one group, 'images'"),
        ("(", "not a regular expression"),
        ("b_1", "does not match /data/images/val/a_1.jpg; every measured image needs a group"),
        ("nowhere.csv:slide", "cannot be read as a CSV table"),
    ],
)
def test_what_groups_nothing_is_told(group: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        image_groups(group, PATHS)


def test_a_table_that_lacks_a_column_or_an_image_is_told(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,slide\na_1.jpg,x\n")
    with pytest.raises(UserError, match="needs the columns 'image' and 'video' \\(it has image, slide\\)"):
        image_groups(f"{table}:video", PATHS)
    with pytest.raises(UserError, match=r"no row for the image /data/images/val/b_1\.jpg"):
        image_groups(f"{table}:slide", PATHS)
