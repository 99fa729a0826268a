"""A user's augmentation that returns something else or fails, and odd arguments of ``torch.hub.load``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.faults.hostile_pickles import archive, programs
from tests.faults.settings_flags import tiny_weights

Entry = tuple[str, Any, str | None]

RETURNS: dict[str, str | None] = {
    "return None": "Error: ",
    "return image": "Error: ",
    "return image, boxes": "Error: ",
    "return image, boxes, classes, 1": "Error: ",
    "return image[:5], boxes, classes": "image",
    "return image.astype(float), boxes, classes": "image",
    "return image[..., :1], boxes, classes": "image",
    "return None, boxes, classes": "image",
    "return 'x', boxes, classes": "image",
    "return [], boxes, classes": "image",
    "return np.zeros((0, 0, 3), np.uint8), boxes, classes": "image",
    "return image[::-1, ::-1], boxes, classes": None,
    "return np.broadcast_to(np.uint8(5), image.shape), boxes, classes": None,
    "return np.asfortranarray(image), boxes, classes": None,
    "return image.tolist(), boxes, classes": "image",
    "return np.ma.masked_array(image), boxes, classes": None,
    "return np.zeros((60000, 60000, 3), np.uint8), boxes, classes": "image",
    "return image, boxes * np.nan, classes": "NaN",
    "return image, boxes + np.inf, classes": "NaN",
    "return image, boxes[:0], classes": "0 boxes",
    "return image, boxes[:, :3], classes": "Error: ",
    "return image, boxes[:, ::-1], classes": None,
    "return image, boxes * 1e30, classes": None,
    "return image, boxes.astype(complex), classes": None,
    "return image, 'x', classes": "Error: ",
    "return image, None, classes": "Error: ",
    "return image, [[1, 2, 3, 4], [1]], classes": "Error: ",
    "return image, boxes.tolist(), classes.tolist()": None,
    "return image, [], []": None,
    "return image, -boxes, classes": None,
    "return image, np.zeros((1000000, 4)), np.zeros(1000000)": None,
    "return image, boxes, classes + 9": "class",
    "return image, boxes, classes - 9": "class",
    "return image, boxes, classes + 0.5": "class",
    "return image, boxes, classes * np.nan": "class",
    "return image, boxes, ['a']": "class",
    "return image, boxes, [None]": "class",
    "return image, boxes, [True]": "class",
    "return image, boxes, classes[:, None]": None,
    "return image, boxes, {0}": "class",
    "return image, boxes, classes.astype('u8') + np.uint64(2**63)": "class",
    "return (x for x in (image, boxes, classes))": None,
    "return image, boxes, classes.astype('datetime64[s]')": "class",
    "image.fill(9); boxes.fill(9); classes.fill(9); return image, boxes, classes": "none of 0 to 1",
    "raise ValueError('x')": "ValueError",
    "raise KeyError('\\x1b[2J')": "KeyError",
    "raise MemoryError": "MemoryError",
    "raise cv2.error('x')": "error: x",
    "raise StopIteration": "StopIteration",
    "raise Own('x')": "Own: x",
    "raise Exception": "Exception",
    "assert False": "AssertionError",
    "return f(image, boxes, classes, rng)": "RecursionError",
    "raise NotImplementedError": "NotImplementedError",
    "raise BufferError": "BufferError",
    "raise EOFError": "EOFError",
    "raise UserWarning('x')": "UserWarning",
    "return 1 / 0": "ZeroDivisionError",
    "return nothing": "NameError",
    "return open('/nothing')": "FileNotFoundError",
    "return cv2.resize(image, (0, 0))": "error",
    "rng.bit_generator.state = 5; return image, boxes, classes": "Error: ",
    "image.setflags(write=False); return image, boxes, classes": None,
    "import os; os.chdir('/nothing')": "FileNotFoundError",
    "return memoryview(image), boxes, classes": None,
    "return image, boxes, b'x'": "class",
}
FILES: dict[str, tuple[bytes | None, str]] = {
    "a.py:nothing": (b"", "no function"),
    "b.py:f": (b"f = 5", "no function"),
    "c.py:f": (b"def f(:", "SyntaxError"),
    "d.py:f": (b"\0", "Error: "),
    "e.py:f": (b"\xff\xfe", "Error: "),
    "f.py:f": (b"import nothing", "ModuleNotFoundError"),
    "g.py:f": (b"raise Exception('x')", "Exception: x"),
    "h.py:f": (b"class E(Exception): pass\nraise E('y')", "E: y"),
    "i.py:f": (b"1/0", "ZeroDivisionError"),
    "j.py": (b"", "expected file"),
    "k.py:": (b"", "expected file"),
    "l.txt:f": (b"", "expected file"),
    "m.py:f.g": (b"def f(): pass", "no function"),
    "n.py:__name__": (b"", "no function"),
    ":f": (None, "expected file"),
    "absent.py:f": (None, "expected file"),
    "x" * 5000 + ".py:f": (None, "expected file"),
    "a\0.py:f": (None, "expected file"),
    "dir.py:f": (None, "expected file"),
    "pipe.py:f": (None, "expected file"),
    "loop.py:f": (None, "expected file"),
    "null.py:f": (None, "expected file"),
    "o.py:f": (b"(" * 100_000, "Error: "),
    "": (None, "expected file"),
    "p.py:f": (b"# coding: nothing\n", "SyntaxError"),
    "q.py:f": (b"f = " + b"-" * 100_000 + b"1", "Error: "),
    "r.py:f": (b"raise MemoryError", "MemoryError"),
}


def augmentations(folder: Path) -> Iterator[Entry]:
    """Files and functions of ``--augment``."""
    from utils.data.augment.user import UserTransform

    head = "import cv2\nimport numpy as np\nclass Own(Exception): pass\ndef f(image, boxes, classes, rng):\n    "

    def called(path: Path) -> None:
        image, boxes = np.full((48, 64, 3), 7, np.uint8), np.array([[5, 5, 40, 40]], np.float32)
        found, boxes, classes = UserTransform(f"{path}:f", 2)(image, boxes, np.zeros(1, np.int64), np.random.default_rng(0))
        assert (image == 7).all(), "the original was changed"
        assert (found.shape, found.dtype) == (image.shape, np.uint8), "another image"
        assert np.isfinite(boxes).all(), "a box is not finite"
        assert (len(boxes), classes.dtype) == (len(classes), np.int64), "other boxes"
        cv2.imwrite(str(folder / "out.png"), found)

    for at, (body, refusal) in enumerate(RETURNS.items()):
        path = folder / f"returns{at}.py"
        path.write_text(head + body + "\n")
        yield f"augment: {body}", lambda path=path: called(path), refusal
    for name, (content, _) in FILES.items():
        if content is not None:
            (folder / name.partition(":")[0]).write_bytes(content)
    (folder / "dir.py").mkdir()
    os.mkfifo(folder / "pipe.py")
    (folder / "loop.py").symlink_to("loop.py")
    (folder / "null.py").symlink_to("/dev/null")
    for name, (_, refusal) in FILES.items():
        yield f"augment: {name!a:.40}", lambda name=name: UserTransform(f"{folder}/{name}" if name else "", 2), refusal


def hub(folder: Path) -> Iterator[Entry]:
    """What ``torch.hub.load`` passes on."""
    import hubconf

    weights = tiny_weights(folder)
    image = folder / "a.png"
    cv2.imwrite(str(image), np.full((64, 64, 3), 9, np.uint8))
    (folder / "pickle.pt").write_bytes(programs(folder / "canary")["REDUCE os.system"])
    archive(folder / "zip.pt", programs(folder / "canary")["nested in a model"])
    (folder / "empty.pt").touch()
    (folder / "dir.pt").mkdir()
    os.mkfifo(folder / "pipe.pt")
    (folder / "loop.pt").symlink_to("loop.pt")
    (folder / "zero.pt").symlink_to("/dev/zero")
    names = (
        "pickle.pt",
        "zip.pt",
        "empty.pt",
        "dir.pt",
        "pipe.pt",
        "loop.pt",
        "zero.pt",
        "absent.pt",
        "x" * 5000,
        "a\0b",
        "",
        "a.png",
        "nothing.onnx",
        "../..",
    )
    for name in names:
        yield f"hub: {name!a:.30}", lambda name=name: hubconf.custom(folder / name, _verbose=False, device="cpu"), "no weights|refused"
    for url in ("http://127.0.0.1/x.pt", "file:///etc/passwd", "https://x/x.pt"):
        yield f"hub: {url}", lambda url=url: hubconf.custom(url, device="cpu"), "no weights"
    for device in ("nothing", "cuda:99", "cpu,cpu", "-1", "meta", "x" * 5000):
        yield f"hub: device {device:.30}", lambda device=device: hubconf.custom(weights, device=device), "--device"
    for settings in (
        {"channels": 0},
        {"classes": 0},
        {"classes": -1},
        {"classes": 10**20},
        {"channels": 10**6},
        {"classes": "Error: "},
        {"channels": 1.5},
    ):
        yield (
            f"hub: {settings}",
            lambda settings=settings: hubconf.yolov5n(pretrained=False, _verbose=False, device="cpu", **settings),
            "is a positive integer",
        )
    model = hubconf.custom(weights, _verbose=False, device="cpu")
    array = np.zeros((32, 32, 3), np.uint8)
    for what, source in {
        "no images": [],
        "None": None,
        "a number": 5,
        "an array of text": np.array(["x"]),
        "an empty image": array[:0],
        "five dimensions": array[None, None],
        "NaN": np.full((8, 8, 3), np.nan),
        "objects": np.array([object()]),
        "a pipe": str(folder / "pipe.pt"),
        "a folder of nothing": str(folder / "dir.pt"),
        "nested lists": [[[[array]]]],
        "bytes": b"x",
        "a set": {1},
        "an absent file": "absent.jpg",
        "a NUL": "a\0b.jpg",
        "file:": "file:///etc/passwd",
        "a dict": {"a": 1},
        "bool": array.astype(bool),
        "a scalar": np.array(5),
    }.items():
        yield (
            f"hub: image: {what}",
            lambda source=source: model(source, size=64),
            "source 0|0 to 255|no such file|no image|not a file|not supported",
        )
    for size in (0, -1, 10**20, 20_000, (64,), (64, 64, 64), (), "64", None, 1.5, (0, 64), [64, "x"]):
        yield f"hub: size {size!r}", lambda size=size: model(array, size=size), "imgsz must be"
    for name, value in (
        ("conf", 2),
        ("conf", float("nan")),
        ("conf", "Error: "),
        ("conf", None),
        ("iou", -1),
        ("iou", float("inf")),
        ("max_det", 0),
        ("max_det", -1),
        ("max_det", 1.5),
        ("max_det", "Error: "),
        ("classes", 5),
        ("classes", ["x"]),
        ("classes", [10**20]),
        ("classes", [-1]),
        ("classes", {"a": 1}),
    ):

        def set_and_call(name: str = name, value: Any = value) -> None:
            before = getattr(model, name)
            setattr(model, name, value)
            try:
                model(array, size=64)
            finally:
                setattr(model, name, before)

        yield f"hub: {name} = {value!r}", set_and_call, "^(conf|iou|max_det|classes)"
