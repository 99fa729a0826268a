"""VOC XML: pixels counted from 1, names, sizes that may lie, and nothing that expands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from utils.data.labels.label_report import ImageAnnotations
from utils.data.labels.voc import class_names, read_voc

CLASSES = {"apple": 0, "banana": 1}


def thing(name: str = "apple", box: tuple[object, ...] = (11, 21, 60, 70), extra: str = "") -> str:
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def xml(*things: str, size: tuple[int, int] | None = (100, 200)) -> str:
    frame = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>" if size else ""
    return f"<annotation><filename>other.png</filename>{frame}{''.join(things)}</annotation>"


def read(text: str | bytes, size: tuple[int, int] = (100, 200)) -> ImageAnnotations:
    return read_voc(Path("a.xml"), text.encode() if isinstance(text, str) else text, CLASSES, size)


def test_the_first_pixel_is_number_1_and_the_last_is_inside() -> None:
    labels = read(xml(thing(), thing("banana", (1, 1, 200, 100))))
    np.testing.assert_allclose(labels.annotations, [[0, 35 / 200, 45 / 100, 50 / 200, 50 / 100], [1, 0.5, 0.5, 1, 1]])
    assert labels.findings.all() == []


@pytest.mark.parametrize("size", [None, (0, 0), (-5, 20)])
def test_without_a_size_the_image_has_it(size: tuple[int, int] | None) -> None:
    np.testing.assert_allclose(read(xml(thing(), size=size)).annotations, [[0, 35 / 200, 45 / 100, 0.25, 0.5]])


def test_an_image_scaled_after_labelling() -> None:
    labels = read(xml(thing(), size=(100, 200)), (50, 100))
    np.testing.assert_allclose(labels.annotations, [[0, 35 / 200, 0.45, 0.25, 0.5]])
    assert "says 200 x 100 pixels, the image has 100 x 50" in labels.findings.all()[0].text
    assert labels.findings.dropped == 0


def test_a_size_that_cannot_be_is_not_believed() -> None:
    np.testing.assert_allclose(
        read(xml(thing(), size=(40, 80)), (100, 200)).annotations, [[0, 35 / 200, 0.45, 0.25, 0.5]]
    )  # too small for the box
    np.testing.assert_allclose(
        read(xml(thing(), size=(200, 100)), (100, 200)).annotations, [[0, 35 / 200, 0.45, 0.25, 0.5]]
    )  # another aspect


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (thing("aple"), "no class 'aple'; did you mean 'apple'?"),
        (thing(box=(60, 21, 11, 70)), "ends before it begins"),
        (thing(box=("nan", 1, 2, 3)), "ends before it begins"),
        (thing(box=("", 1, 2, 3)), "no bndbox"),
        ("<object><name>apple</name></object>", "no bndbox"),
        (thing(box=(301, 1, 350, 50)), "without area inside"),
        (thing(box=(11, 21, 60, 70)), "repetition"),
        (thing(box=(1, 1, 5, 5), extra="<difficult>1</difficult>"), "difficult"),
    ],
)
def test_a_bad_object_costs_itself_only(bad: str, reason: str) -> None:
    labels = read(xml(thing(), bad, thing("banana")))
    assert labels.annotations[:, 0].tolist() == [0, 1]
    assert labels.findings.dropped == 1
    assert reason in labels.findings.all()[0].text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(encoding: str) -> None:
    bomb = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY x "apple"><!ENTITY y "&x;&x;">]>' + xml(thing("&x;"))
    labels = read(bomb.encode(encoding))
    assert len(labels.annotations) == 0
    assert "refused" in labels.findings.all()[0].text
    assert class_names(bomb.encode(encoding)) == set()


@pytest.mark.parametrize("text", ["", "<annotation>", "not xml", "<a/>" * 2, "<?xml version='1.0' encoding='nonsense'?><a/>"])
def test_what_is_no_xml(text: str) -> None:
    labels = read(text)
    assert len(labels.annotations) == 0
    assert "not valid XML" in labels.findings.all()[0].text


def test_class_names() -> None:
    assert class_names(xml(thing("kiwi"), thing(" fig "), thing("kiwi")).encode()) == {"kiwi", "fig"}


@pytest.mark.parametrize(
    "polygon",
    [
        "<x1>11</x1><y1>21</y1><x2>60</x2><y2>21</y2><x3>60</x3><y3>70</y3>",
        "<username>x</username><pt><x>11</x><y>21</y></pt><pt><x>60</x><y>70</y></pt><pt><x>30</x><y>50</y></pt>",
    ],
)
def test_a_polygon_without_a_box(polygon: str) -> None:
    labels = read(xml(f"<object><name>apple</name><polygon>{polygon}</polygon></object>"))
    np.testing.assert_allclose(labels.annotations, [[0, 35 / 200, 45 / 100, 50 / 200, 50 / 100]])


@pytest.mark.parametrize("polygon", ["", "<x1>11</x1><y1>21</y1>", "<x1>a</x1><y1>2</y1><x2>6</x2><y2>1</y2><x3>0</x3><y3>7</y3>"])
def test_neither_a_box_nor_a_polygon(polygon: str) -> None:
    labels = read(xml(f"<object><name>apple</name><polygon>{polygon}</polygon></object>", thing()))
    assert (len(labels.annotations), labels.findings.kinds) == (1, {"number": 1})


@pytest.mark.parametrize(("name", "encoding"), [("Äpfel", "cp1252"), ("苹果", "gb18030"), ("Äpfel", "utf-16"), ("苹果", "utf-8")])
def test_names_in_other_encodings(name: str, encoding: str) -> None:
    assert class_names(xml(thing(name)).encode(encoding)) == {name}
