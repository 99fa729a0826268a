"""The folder that a label tool exports is read as it is, with the right boxes in the right split and the right class names.

Every layout is written here as the tool writes it (file names, odd prefixes, ids and categories), for the same four images.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask

from utils.data.config import load_data
from utils.data.scan import load_index
from utils.errors import UserError

H, W = 80, 120
NAMES = ["disc", "block"]
SCENES = {  # class, x0, y0, x1, y1 in pixels
    "0001": [(0, 10, 12, 50, 40), (1, 60, 8, 100, 72)],
    "0002": [(1, 4, 30, 44, 60)],
    "0003": [(0, 70, 20, 110, 52)],
    "0004": [(1, 16, 16, 32, 64), (0, 50, 40, 90, 76)],
}
TRAIN, VAL = ("0001", "0002"), ("0003", "0004")
Expected = dict[str, tuple[str, ...]]
BOTH: Expected = {"train": TRAIN, "val": VAL}
SAME: Expected = {"train": (*TRAIN, *VAL), "val": (*TRAIN, *VAL)}


def put(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((H, W, 3), 90, np.uint8))


def yolo(name: str) -> str:
    lines = [(c, (x0 + x1) / 2 / W, (y0 + y1) / 2 / H, (x1 - x0) / W, (y1 - y0) / H) for c, x0, y0, x1, y1 in SCENES[name]]
    return "".join(f"{line[0]} {' '.join(f'{v:.6f}' for v in line[1:])}\n" for line in lines)


def voc(name: str) -> str:
    frame = f"<size><width>{W}</width><height>{H}</height><depth>3</depth></size>"
    boxes = "".join(
        f"<object><name>{NAMES[c]}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for c, x0, y0, x1, y1 in SCENES[name]
    )
    return f"<annotation><folder>x</folder><filename>{name}.jpg</filename><path>C:\\x\\{name}.jpg</path>{frame}{boxes}</annotation>"


def coco(path: Path, names: tuple[str, ...], file_name: str = "{}.jpg", first: int = 1, root: str = "", **changes: Any) -> None:
    """Write a JSON; `first` is the id of the first category, `root` Roboflow's."""
    images = [{"id": i, "file_name": file_name.format(name), "width": W, "height": H} for i, name in enumerate(names, 1)]
    boxes = [(i, *box) for i, name in enumerate(names, 1) for box in SCENES[name]]
    annotations = [
        {
            "id": n,
            "image_id": i,
            "category_id": c + first,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": 0,
            "area": 1.0,
            "segmentation": [],
        }
        for n, (i, c, x0, y0, x1, y1) in enumerate(boxes, 1)
    ]
    categories = [{"id": c + first, "name": name, "supercategory": root} for c, name in enumerate(NAMES)]
    if root:
        categories.insert(0, {"id": 0, "name": root, "supercategory": "none"})
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    put(path, json.dumps(content | changes))


def darknet(root: Path, subsets: dict[str, tuple[str, ...]], *, valid: bool = True) -> None:
    lines = [f"classes = {len(NAMES)}"]
    for (subset, names), key in zip(subsets.items(), ("train", "valid"), strict=False):
        for name in names:
            picture(root / f"obj_{subset}_data/{name}.jpg")
            put(root / f"obj_{subset}_data/{name}.txt", yolo(name))
        put(root / f"{subset}.txt", "".join(f"data/obj_{subset}_data/{name}.jpg\n" for name in names))
        lines.append(f"{key} = data/{subset}.txt")
    put(root / "obj.data", "\n".join([*lines, "names = data/obj.names", "backup = backup/", ""]))
    put(root / "obj.names", "\n".join(NAMES))


def cvat_yolo(root: Path) -> Expected:
    darknet(root, {"Train": TRAIN, "Validation": VAL})
    return BOTH


def cvat_yolo_one_subset(root: Path) -> Expected:
    darknet(root, {"train": TRAIN})
    return {"train": TRAIN, "val": TRAIN}


def cvat_ultralytics(root: Path) -> Expected:
    for subset, names in (("Train", TRAIN), ("Validation", VAL)):
        for name in names:
            picture(root / f"images/{subset}/{name}.jpg")
            put(root / f"labels/{subset}/{name}.txt", yolo(name))
        put(root / f"{subset}.txt", "".join(f"data/images/{subset}/{name}.jpg\n" for name in names))
    put(root / "data.yaml", "names:\n  0: disc\n  1: block\npath: .\ntrain: Train.txt\nval: Validation.txt\n")
    return BOTH


def cvat_coco(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"images/default/{name}.jpg")
    coco(root / "annotations/instances_default.json", (*TRAIN, *VAL))
    return SAME


def cvat_coco_subsets(root: Path) -> Expected:
    for subset, names in (("Train", TRAIN), ("Validation", VAL)):
        for name in names:
            picture(root / f"images/{subset}/{name}.jpg")
        coco(root / f"annotations/instances_{subset}.json", names)
        coco(root / f"annotations/person_keypoints_{subset}.json", names)
    return BOTH


def cvat_voc(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"JPEGImages/{name}.jpg")
        put(root / f"Annotations/{name}.xml", voc(name))
    put(root / "ImageSets/Main/Train.txt", "\n".join(TRAIN))
    put(root / "ImageSets/Main/Validation.txt", "\n".join(VAL))
    put(root / "ImageSets/Main/disc_Train.txt", "\n".join(f"{name}  1" for name in TRAIN))
    put(root / "labelmap.txt", "# label:color_rgb:parts:actions\ndisc:1,2,3::\n")
    return BOTH


def label_studio_yolo(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"images/a1b2c3d4-{name}.jpg")
        put(root / f"labels/a1b2c3d4-{name}.txt", yolo(name))
    put(root / "classes.txt", "disc\nblock\n")
    put(root / "notes.json", '{"categories": [{"id": 0, "name": "disc"}, {"id": 1, "name": "block"}], "info": {"year": 2024}}')
    return SAME


def label_studio_coco(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"images/a1b2c3d4-my {name}.jpg")
    coco(root / "result.json", (*TRAIN, *VAL), "images\\a1b2c3d4-my%20{}.jpg", first=0)
    return SAME


def label_studio_voc(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"images/a1b2c3d4-{name}.jpg")
        put(root / f"Annotations/a1b2c3d4-{name}.xml", voc(name))
    return SAME


def roboflow_yolo(root: Path) -> Expected:
    for split, names in (("train", TRAIN), ("valid", VAL)):
        for name in names:
            picture(root / f"{split}/images/{name}_jpg.rf.0a1b.jpg")
            put(root / f"{split}/labels/{name}_jpg.rf.0a1b.txt", yolo(name))
    put(root / "data.yaml", "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['disc', 'block']\n")
    put(root / "README.dataset.txt", "shapes")
    return BOTH


def roboflow_coco(root: Path) -> Expected:
    for split, names in (("train", TRAIN), ("valid", VAL)):
        for name in names:
            picture(root / f"{split}/{name}_jpg.rf.0a1b.jpg")
        coco(root / f"{split}/_annotations.coco.json", names, "{}_jpg.rf.0a1b.jpg", root="disc")
    put(root / "README.roboflow.txt", "shapes")
    return BOTH


def roboflow_darknet(root: Path) -> Expected:
    for split, names in (("train", TRAIN), ("valid", VAL)):
        put(root / f"{split}/_darknet.labels", "disc\nblock\n")
        for name in names:
            picture(root / f"{split}/{name}.jpg")
            put(root / f"{split}/{name}.txt", yolo(name))
    return BOTH


def roboflow_voc(root: Path) -> Expected:
    for split, names in (("train", TRAIN), ("valid", VAL)):
        for name in names:
            picture(root / f"{split}/{name}.jpg")
            put(root / f"{split}/{name}.xml", voc(name))
    return BOTH


def label_img_yolo(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"{name}.jpg")
        put(root / f"{name}.txt", yolo(name))
    put(root / "classes.txt", "disc\nblock\n")
    return SAME


def label_img_voc(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"{name}.jpg")
        put(root / f"{name}.xml", voc(name))
    return SAME


def labelme2coco(root: Path) -> Expected:
    for split, names in (("train", TRAIN), ("val", VAL)):
        coco(root / f"{split}.json", names, "photos/{}.jpg", first=0)
        for name in names:
            picture(root / f"photos/{name}.jpg")
    return BOTH


def labelme_script(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"JPEGImages/{name}.jpg")
        picture(root / f"Visualization/{name}.jpg")
    coco(root / "annotations.json", (*TRAIN, *VAL), "JPEGImages/{}.jpg", first=0)
    return SAME


def fiftyone_coco(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"data/{name}.jpg")
    coco(root / "labels.json", (*TRAIN, *VAL), first=0)
    return SAME


def fiftyone_yolov5(root: Path) -> Expected:
    for split, names in BOTH.items():
        for name in names:
            picture(root / f"images/{split}/{name}.jpg")
            put(root / f"labels/{split}/{name}.txt", yolo(name))
    put(root / "dataset.yaml", "names:\n  0: disc\n  1: block\npath: /mnt/me/export\ntrain: ./images/train/\nval: ./images/val/\n")
    return BOTH


def fiftyone_yolov4(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"data/{name}.jpg")
        put(root / f"data/{name}.txt", yolo(name))
    put(root / "obj.names", "disc\nblock\n")
    put(root / "images.txt", "".join(f"data/{name}.jpg\n" for name in (*TRAIN, *VAL)))
    return SAME


def fiftyone_voc(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"data/{name}.jpg")
        put(root / f"labels/{name}.xml", voc(name))
    return SAME


def supervision_coco(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"images/{name}.jpg")
    coco(root / "annotations.json", (*TRAIN, *VAL), first=1)
    return SAME


def supervision_yolo(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"images/{name}.jpg")
        put(root / f"labels/{name}.txt", yolo(name))
    put(root / "classes.txt", "disc\nblock\n")
    return SAME


def supervision_voc(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"images/{name}.jpg")
        put(root / f"annotations/{name}.xml", voc(name))
    return SAME


def vott_voc(root: Path) -> Expected:
    """Lists of a class each, with suffixes and flags; every image is in all of them."""
    for name in (*TRAIN, *VAL):
        picture(root / f"JPEGImages/{name}.jpg")
        put(root / f"Annotations/{name}.xml", voc(name))
    for number, label in enumerate(NAMES):
        for split, names in BOTH.items():
            shows = [(name, 1 if any(box[0] == number for box in SCENES[name]) else -1) for name in names]
            put(root / f"ImageSets/Main/{label}_{split}.txt", "".join(f"{name}.jpg {flag}\n" for name, flag in shows))
    put(root / "pascal_label_map.pbtxt", "item { id: 1 name: 'disc' }")
    return BOTH


def makesense_yolo(root: Path) -> Expected:
    """A zip of label files that is unpacked beside the images; the names come with them in newer versions."""
    for name in (*TRAIN, *VAL):
        picture(root / f"{name}.jpg")
        put(root / f"{name}.txt", yolo(name))
    put(root / "labels.txt", "disc\nblock\n")
    return SAME


def makesense_coco(root: Path) -> Expected:
    for name in (*TRAIN, *VAL):
        picture(root / f"{name}.jpg")
    coco(root / "labels_my-project-name_2024-05-01-10-20-30.json", (*TRAIN, *VAL))
    return SAME


def datumaro_coco(root: Path) -> Expected:
    for split, names in BOTH.items():
        for name in names:
            picture(root / f"images/{split}/{name}.jpg")
        coco(root / f"annotations/instances_{split}.json", names)
    return BOTH


def datumaro_yolo(root: Path) -> Expected:
    darknet(root, {"train": TRAIN, "valid": VAL})
    return BOTH


def plain_lists(root: Path) -> Expected:
    for split, names in BOTH.items():
        for name in names:
            picture(root / f"images/{name}.jpg")
            put(root / f"labels/{name}.txt", yolo(name))
        put(root / f"{split}.txt", "".join(f"./images/{name}.jpg\n" for name in names))
    put(root / "shapes.names", "disc\nblock\n")
    return BOTH


def yaml_of_roboflow_coco(root: Path) -> Expected:
    """A data YAML that names the folders, as for YOLO labels; the JSON of each is found."""
    roboflow_coco(root)
    put(root / "data.yaml", "train: train\nval: valid\nnames: [disc, block]\n")
    return BOTH


def annotations_in_each_split(root: Path) -> Expected:
    for split, names in BOTH.items():
        for name in names:
            picture(root / f"{split}/images/{name}.jpg")
        coco(root / f"{split}/annotations/instances.json", names)
    return BOTH


def fiftyone_validation(root: Path) -> Expected:
    """FiftyOne's keys are the names that its user gave the splits."""
    fiftyone_yolov5(root)
    file = root / "dataset.yaml"
    file.write_text(file.read_text().replace("val: ./images/val/", "validation: ./images/val/").replace("0: disc", "'0': disc"))
    return BOTH


def yaml_of_another_system(root: Path) -> Expected:
    """A data YAML, saved by an editor that writes UTF-16."""
    plain_lists(root)
    (root / "data.yaml").write_bytes("train: train.txt\r\nval: val.txt\r\nnames: [disc, block]\r\n".encode("utf-16"))
    return BOTH


def unpacked_by_others(root: Path) -> Expected:
    """The resource forks of macOS, Jupyter's copies and Synology's thumbnails are no images and no labels."""
    label_img_yolo(root)
    for name in ("._0001.jpg", "._0001.txt", "__MACOSX/._0001.jpg", "__MACOSX/0001.jpg"):
        put(root / name, "\0\5\x16\7\0\2")
    for name in (".ipynb_checkpoints/0001-checkpoint.jpg", "@eaDir/0001.jpg/SYNOPHOTO_THUMB_M.jpg"):
        picture(root / name)
    return SAME


def labelme_to_coco(root: Path) -> Expected:
    """LabelMe's example script: a class 0 that is never annotated, masks without boxes, images in JPEGImages."""
    for name in (*TRAIN, *VAL):
        picture(root / f"JPEGImages/{name}.jpg")
    coco(root / "annotations.json", (*TRAIN, *VAL), "JPEGImages/{}.jpg")
    content = json.loads((root / "annotations.json").read_text())
    content["categories"].insert(0, {"supercategory": None, "id": 0, "name": "_background_"})
    for number, annotation in enumerate(content["annotations"]):
        x, y, w, h = annotation.pop("bbox")
        drawn = np.zeros((H, W), np.uint8)
        drawn[y : y + h, x : x + w] = 1
        rle = mask.encode(np.asfortranarray(drawn))
        runs = np.diff(np.flatnonzero(np.diff(drawn.T.ravel(), prepend=2, append=2))).tolist()
        annotation["segmentation"] = {"size": [H, W], "counts": rle["counts"].decode() if number % 2 else runs}
    put(root / "annotations.json", json.dumps(content))
    return SAME


def coco_of_urls(root: Path) -> Expected:
    """Images that were labelled in a cloud: signed URLs, and buckets."""
    for name in (*TRAIN, *VAL):
        picture(root / f"images/{name}.jpg")
    coco(root / "labels.json", (*TRAIN, *VAL), "https://bucket.example.org/my/set/{}.jpg?X-Amz-Signature=0a%2Fb&x=1")
    return SAME


EXPORTS = (
    *(fiftyone_validation, yaml_of_another_system, unpacked_by_others, labelme_to_coco, coco_of_urls),
    *(plain_lists, yaml_of_roboflow_coco, annotations_in_each_split),
    *(cvat_yolo, cvat_yolo_one_subset, cvat_ultralytics, cvat_coco, cvat_coco_subsets, cvat_voc),
    *(label_studio_yolo, label_studio_coco, label_studio_voc, roboflow_yolo, roboflow_coco, roboflow_darknet, roboflow_voc),
    *(label_img_yolo, label_img_voc, labelme2coco, labelme_script, fiftyone_coco, fiftyone_yolov5, fiftyone_yolov4, fiftyone_voc),
    *(supervision_coco, supervision_yolo, supervision_voc, vott_voc, makesense_yolo, makesense_coco, datumaro_coco, datumaro_yolo),
)


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_an_export_is_read_as_it_is(tmp_path: Path, export: Callable[[Path], Expected]) -> None:
    expected = export(tmp_path)
    data = load_data(tmp_path)
    assert sorted(data.names.values()) == sorted(NAMES)
    for split, names in expected.items():
        index = load_index(data, split)
        assert index.report.findings == ()
        assert [next(name for name in SCENES if name in path.name) for path in index.paths] == list(names)
        for i, name in enumerate(names):
            truth = index.ground_truth(i)
            found = sorted((data.names[c], *box) for c, box in zip(truth.cls.tolist(), np.rint(truth.xyxy).tolist(), strict=True))
            assert found == sorted((NAMES[c], *box) for c, *box in SCENES[name])


@pytest.mark.parametrize(
    ("content", "tool"),
    [
        ({"version": "5.4", "shapes": [], "imagePath": "0001.jpg"}, "LabelMe"),
        ({"infos": {}, "categories": {"label": {"labels": []}}, "items": [{"id": "0001", "annotations": []}]}, "Datumaro"),
        ({"asset": {"id": "1"}, "regions": [{"type": "RECTANGLE"}]}, "VoTT"),
        ([{"id": 1, "annotations": [{"completed_by": 1, "result": []}], "data": {"image": "x"}}], "Label Studio"),
    ],
)
def test_a_format_that_is_not_read_is_named(tmp_path: Path, content: object, tool: str) -> None:
    picture(tmp_path / "0001.jpg")
    put(tmp_path / "0001.json", json.dumps(content))
    with pytest.raises(UserError, match=rf"no labels were found.*; 0001\.json is in {tool}'s own format.*YOLO, COCO or Pascal VOC"):
        load_data(tmp_path)


def test_several_jsons_of_one_split(tmp_path: Path) -> None:
    for name in TRAIN:
        picture(tmp_path / f"train/{name}.jpg")
    coco(tmp_path / "train/a.json", TRAIN)
    coco(tmp_path / "train/b.json", TRAIN)
    with pytest.raises(UserError, match=r"several COCO files for train: a\.json, b\.json; write a data YAML that names one"):
        load_data(tmp_path)
    (tmp_path / "train/b.json").unlink()
    coco(tmp_path / "x.json", VAL)
    coco(tmp_path / "y.json", VAL)
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match=r"several COCO files for each split: x\.json, y\.json"):
        load_data(tmp_path)


def test_label_files_where_the_json_is_missing(tmp_path: Path) -> None:
    """YOLOv5's download of COCO has the JSON of val only."""
    for split, names in BOTH.items():
        for name in names:
            picture(tmp_path / f"images/{split}2017/{name}.jpg")
            put(tmp_path / f"labels/{split}2017/{name}.txt", yolo(name))
    coco(tmp_path / "annotations/instances_val2017.json", VAL)
    entries = [f"{s}: {{images: images/{s}2017, annotations: annotations/instances_{s}2017.json}}" for s in BOTH]
    yaml = put(tmp_path / "coco.yaml", "\n".join([*entries, "names: [disc, block]"]))
    data = load_data(yaml)
    assert data.entries("train") == (tmp_path / "images/train2017",)
    assert data.entries("val") == (tmp_path / "annotations/instances_val2017.json",)
    assert [load_index(data, split).report.boxes for split in BOTH] == [3, 3]
    for label in (tmp_path / "labels/train2017").iterdir():
        label.unlink()
    with pytest.raises(UserError, match=r"instances_train2017\.json not found"):
        load_data(yaml).entries("train")


@pytest.mark.parametrize("encoding", ["cp1252", "gb18030", "utf-16", "utf-8-sig"])
def test_class_lists_that_are_not_utf_8(tmp_path: Path, encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    label_img_yolo(tmp_path)
    names = ["苹果", "香蕉"] if encoding == "gb18030" else ["Äpfel", "Bäume"]
    (tmp_path / "classes.txt").write_bytes("\r\n".join(names).encode(encoding))
    assert load_data(tmp_path).names == dict(enumerate(names))
    assert ("is not UTF-8 and is read as" in caplog.text) == (not encoding.startswith("utf"))


@pytest.mark.parametrize("kind", ["txt", "xml", "json"])
def test_images_that_are_turned_by_exif(tmp_path: Path, kind: str) -> None:
    """Tools show images upright, and so they are labelled."""
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.fromarray(np.full((W, H, 3), 90, np.uint8)).save(tmp_path / "0001.jpg", exif=exif)
    if kind == "json":
        coco(tmp_path / "labels.json", ("0001",))
    else:
        put(tmp_path / f"0001.{kind}", yolo("0001") if kind == "txt" else voc("0001"))
    index = load_index(load_data(tmp_path), "train")
    assert index.sizes.tolist() == [[H, W]]
    assert sorted(np.rint(index.ground_truth(0).xyxy).tolist()) == sorted(list(box[1:]) for box in SCENES["0001"])
    assert index.report.findings == ()
