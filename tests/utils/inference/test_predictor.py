from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from models import build_model, load_model
from utils.errors import UserError
from utils.images.reading import read_image
from utils.inference.predictor import Predictor, predict, to_tensor


@pytest.fixture(scope="module")
def fresh():
    """A detector that finds something everywhere: no training, but an object in every cell."""
    model = build_model("yolov5n", nc=3, names=["a", "b", "c"])
    with torch.no_grad():
        for conv in model.head.m:
            conv.bias.view(3, 8)[:, 4] += 6
            conv.bias.view(3, 8)[:, 5:] += 3
    return model.eval()


@pytest.fixture(scope="module")
def official(shared):
    return load_model(shared / "yolov5n.pt")


@pytest.fixture(scope="module")
def bus(shared) -> Path:
    return shared / "coco128" / "images" / "train2017" / "000000000641.jpg"


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)


def test_tensor_is_rgb_in_0_to_1(image):
    x = to_tensor(image, torch.device("cpu"))
    assert x.shape == (1, 3, 50, 70)
    assert x[0, :, 3, 5].tolist() == pytest.approx([v / 255 for v in image[3, 5, ::-1].tolist()])


def test_every_kind_of_source_gives_the_same(fresh, image, tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), image)
    sources = [path, str(path), image, Image.fromarray(image[..., ::-1].copy()), np.dstack((image, image[..., :1]))]
    found = predict(fresh, sources, imgsz=64)
    assert [r.path.name for r in found] == ["a.png", "a.png", "image2", "image3", "image4"]
    for r in found:
        assert len(r)
        assert np.array_equal(r.image, image)
        assert np.array_equal(r.boxes, found[0].boxes)


def test_single_sources_and_folders(fresh, image, tmp_path, caplog):
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), image)
    (tmp_path / "broken.png").write_bytes(b"no")
    found = predict(fresh, tmp_path, imgsz=64)
    assert [r.path.name for r in found] == ["a.png", "b.png"]
    assert "broken.png" in caplog.text
    assert len(predict(fresh, image, imgsz=64)) == 1
    assert predict(fresh, [], imgsz=64) == []


def test_grey_pictures(fresh, image):
    grey = image[..., 0]
    three = np.dstack([grey] * 3)
    found = predict(fresh, [grey, grey[..., None], Image.fromarray(grey), three], imgsz=64)
    for r in found:
        assert np.array_equal(r.boxes, found[-1].boxes)


def test_boxes_lie_in_the_image_and_are_sorted(fresh, image):
    (r,) = predict(fresh, image, imgsz=(64, 96))
    assert r.shape == (64, 96)
    assert (r.xyxy >= 0).all()
    assert (r.xyxy <= [70, 50, 70, 50]).all()
    assert (np.diff(r.conf) <= 0).all()
    assert r.conf.min() > 0.25
    assert set(r.speed) == {"pre-process", "inference", "NMS"}


def test_settings(fresh, image):
    (r,) = predict(fresh, image, imgsz=64, conf=0.4)
    assert len(r) == 0 or r.conf.min() > 0.4
    (r,) = predict(fresh, image, imgsz=64, classes=[1], max_det=2)
    assert len(r) <= 2
    assert set(r.cls.tolist()) <= {1}
    (loose,) = predict(fresh, image, imgsz=64, iou=0.9)
    (tight,) = predict(fresh, image, imgsz=64, iou=0.1, agnostic=True)
    assert len(loose) > len(tight)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2)])
def test_any_size(fresh, size):
    (r,) = predict(fresh, np.zeros((*size, 3), np.uint8), imgsz=64)
    assert r.image.shape[:2] == size
    assert r.plot().shape[:2] == size
    assert all(crop.image.size for crop in r.crops())


def test_the_model_keeps_its_modes(image):
    model = build_model("yolov5n", nc=1)
    model.train()
    model.model[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.predict(image, imgsz=64)
    assert model.training
    assert not model.model[0].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "statistics too"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((5, 5, 3), np.float32), "expected an array .H, W, 3. uint8"),
        (np.zeros((3, 5, 5), np.uint8), "expected an array"),
        (np.zeros((0, 5, 3), np.uint8), "expected an array"),
        (7, "or a PIL image, got int"),
        ("nowhere.jpg", "^nowhere.jpg: no such file"),
        (Image.new("I;16", (4, 4)), "more than 8 bits"),
    ],
)
def test_sources_that_are_no_images(fresh, source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        predict(fresh, [source], imgsz=64)


@pytest.mark.parametrize("source", [0, None])
def test_what_is_no_list_either(fresh, source):
    with pytest.raises(UserError, match=r"source 0: expected a path, .* got "):
        predict(fresh, source, imgsz=64)


def test_numbers_of_numpy_are_numbers(fresh, image):
    (r,) = predict(fresh, image, imgsz=np.int64(64), classes=np.array([1, 2]))
    assert set(r.cls.tolist()) <= {1, 2}
    assert r.shape == (64, 64)


def test_a_list_with_one_readable_file_gives_it(fresh, image, tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (tmp_path / "list.txt").write_text("a.png\nnowhere.png\n")
    (r,) = predict(fresh, tmp_path / "list.txt", imgsz=64)
    assert r.path == tmp_path / "a.png"
    assert "nowhere.png" in caplog.text


def test_a_model_of_grey_images_is_refused(image):
    with pytest.raises(UserError, match="takes images of 1 channels; images are read with 3"):
        build_model("yolov5n", nc=1, ch=1).predict(image, imgsz=64)


def test_files_that_are_no_images(fresh, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no")
    with pytest.raises(UserError, match=r"a\.jpg: damaged, or not an image"):
        predict(fresh, tmp_path / "a.jpg")
    (tmp_path / "a.mp4").write_bytes(b"no")
    with pytest.raises(UserError, match="takes images"):
        predict(fresh, tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conf": 1.5}, "conf must be in 0..1, got 1.5"),
        ({"iou": -0.1}, "iou"),
        ({"classes": [3]}, "no class 3; its 3 class ids are 0 to 2"),
        ({"max_det": 0}, "max_det must be >= 1, got 0"),
        ({"imgsz": 0}, "imgsz"),
        ({"imgsz": ()}, "imgsz must be"),
        ({"imgsz": (64, 64, 64)}, "imgsz must be"),
        ({"imgsz": 64.5}, "imgsz must be"),
        ({"imgsz": 10**7}, "imgsz must be a side, or .height, width., of 1 to 16384 pixels"),
        ({"classes": 0}, "classes must be a list of class ids, such as .0."),
    ],
)
def test_settings_out_of_range(fresh, image, settings, message):
    with pytest.raises(UserError, match=message):
        predict(fresh, image, **settings)


def test_imgsz_is_rounded_up(fresh):
    assert Predictor(model=fresh, imgsz=(65, 32)).shape == (96, 32)


def test_too_little_memory_is_said(fresh, image, monkeypatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(type(fresh), "forward", full)
    with pytest.raises(UserError, match="cannot hold an image of 64 x 64; use a smaller imgsz"):
        predict(fresh, image, imgsz=64)


def test_official_weights_find_the_bus(official, bus):
    (r,) = official.predict(bus)
    assert r.shape == (448, 640)
    assert "1 bus" in r.summary()
    assert r.conf[r.cls == 5][0] > 0.7
    assert r.xywhn[r.cls == 5][0] == pytest.approx([0.549, 0.501, 0.652, 0.535], abs=0.03), "coco128's label of this object"


def test_half_and_augmented_find_the_same_bus(official, bus):
    image = read_image(bus)
    (full,) = official.predict(image, imgsz=320)
    for settings in ({"half": True}, {"augment": True}):
        (r,) = official.predict(image, imgsz=320, **settings)
        box = r.xyxy[r.cls == 5][0]
        assert box == pytest.approx(full.xyxy[full.cls == 5][0], abs=25), settings
