"""Traps in what looks like data: pickles beside labels, poisoned caches, names that are paths, formulas, markup or terminal codes,
URLs that lead elsewhere."""

from __future__ import annotations

import contextlib
import csv
import http.server
import io
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Entry = tuple[str, Any, str | None]

NAMES = {
    "a path upwards": "../../precious/file",
    "an absolute path": "/etc/cron.d/x",
    "a formula": "=cmd|' /C calc'!A0",
    "a formula with @": "@SUM(1+1)*cmd",
    "markup": "<script>alert(1)</script>",
    "a terminal title": "\x1b]0;owned\x07",
    "a terminal's answer": "\x1b[6n\x9b6n",
    "a line break": "cat\r\nerror: all is lost",
    "right to left": "\u202egpj.exe",
    "broken UTF-8": "\udcff\ud800",
    "nothing": "",
    "a device": "CON",
}


def named_dataset(folder: Path, names: list[str]) -> Path:
    """A drawn dataset with the given class names."""
    import yaml

    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for at in range(2):
            cv2.imwrite(str(folder / "images" / split / f"{at}.png"), np.full((64, 64, 3), 40 * at, np.uint8))
            (folder / "labels" / split / f"{at}.txt").write_text("0 .5 .5 .4 .4\n")
    content = {"path": ".", "train": "images/train", "val": "images/val", "names": names}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml"


class Touch:
    """Pickles as a call that touches the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def traps(folder: Path, canary: Path) -> Iterator[Entry]:
    """Every attack by way of what lies beside data, and by names."""
    yield from caches(folder, canary)
    yield from named(folder)
    yield from urls(folder)


def caches(folder: Path, canary: Path) -> Iterator[Entry]:
    """Pickles where other programs keep their caches, and where Attune keeps its own."""
    from utils.data.config import load_data
    from utils.data.loading.image_store import ImageStore
    from utils.data.scan import load_index

    beside, own = folder / "beside", folder / "own"
    yaml_file = named_dataset(folder / "set", ["x"])
    poison = pickle.dumps(Touch(canary), 2)
    array = io.BytesIO()
    np.save(array, np.array([Touch(canary)], object), allow_pickle=True)

    def read(cache: Path) -> None:
        index = load_index(load_data(yaml_file), "train", cache_dir=cache)
        assert (len(index), index.report.boxes) == (2, 2), "another dataset came out"

    for name in ("labels.cache", "train.cache", "train.cache.npy", "0.npy"):
        (folder / "set" / "labels" / name).write_bytes(poison if not name.endswith("npy") else array.getvalue())
        (folder / "set" / "images" / "train" / name).write_bytes(poison if not name.endswith("npy") else array.getvalue())
    yield "cache: pickles beside the labels", lambda: read(beside), None

    def poisoned(content: bytes) -> None:
        read(own)
        (file,) = own.glob("*.npz")
        file.write_bytes(content)
        read(own)

    npz = io.BytesIO()
    np.savez(npz, rows=np.array([Touch(canary)], object))
    for name, content in (
        ("a pickle", poison),
        ("an array of objects", array.getvalue()),
        ("an archive of objects", npz.getvalue()),
        ("nothing", b""),
    ):
        yield f"cache: {name} in its place", lambda content=content: poisoned(content), None

    def images() -> None:
        os.environ["ATTUNE_CACHE"] = str(folder / "images")
        paths = sorted((folder / "set" / "images" / "train").glob("*.png"))
        for _ in range(2):
            store = ImageStore(paths, np.array([(64, 64)] * 2), 64, exact=False, recent=0, cache="disk")
            assert [int(store(i).max()) for i in range(2)] == [0, 40]
            kept = [p for p in (folder / "images").rglob("*") if p.is_file()]
            assert kept, "nothing is kept"
            for file in kept:
                file.write_bytes(array.getvalue())

    yield "cache: arrays of objects for images", images, None


def named(folder: Path) -> Iterator[Entry]:
    """Class and file names, through everything that detection and validation write."""
    from utils.evaluation.confusion import write_confusion
    from utils.inference.frame import Frame
    from utils.inference.outputs import OutputOptions, Outputs
    from utils.inference.results import Results

    image = np.zeros((32, 32, 3), np.uint8)

    def written(name: str, place: Path) -> None:
        outside = set(folder.rglob("*"))
        place.mkdir()
        results = Results(
            image, Path("a.jpg"), {0: name}, np.array([[4, 4, 20, 20]], np.float32), np.array([0.9], np.float32), np.array([0])
        )
        with Outputs(place, OutputOptions(txt=True, csv=True, json=True, crops=True)) as outputs:
            outputs.add(Frame(image, Path("=1.jpg"), "=1", "x"), results, image)
        write_confusion(place / "confusion.csv", np.zeros((2, 2), np.int64), [name])
        for file in place.glob("*.csv"):
            with file.open(newline="", encoding="utf-8") as rows:
                cells = [cell for row in csv.reader(rows) for cell in row]
            assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))], f"{file.name}: {cells}"
        stray = [p for p in set(folder.rglob("*")) - outside if not p.is_relative_to(place)]
        assert not stray, f"written elsewhere: {stray}"
        assert len(list((place / "crops").iterdir())) == 1, "crops in several places"

    def shown(name: str) -> None:
        import logging

        from utils.cli import run
        from utils.errors import UserError
        from utils.log import LOG, start_log

        def fail() -> None:
            raise UserError(f"class {name} is unknown")

        before, out = (sys.stdout, sys.stderr), io.StringIO()
        handlers, LOG.handlers = LOG.handlers, []
        try:
            sys.stdout = sys.stderr = out
            start_log()
            LOG.log(logging.WARNING, "class %s", name)
            with contextlib.suppress(SystemExit):
                run(fail)
        finally:
            (sys.stdout, sys.stderr), LOG.handlers = before, handlers
        assert all(c.isprintable() or c == "\n" for c in out.getvalue()), repr(out.getvalue())

    for at, (what, name) in enumerate(NAMES.items()):
        yield f"class name: {what}, in files", lambda name=name, at=at: written(name, folder / f"run{at}"), None
        yield f"class name: {what}, on the terminal", lambda name=name: shown(name), None


def urls(folder: Path) -> Iterator[Entry]:
    """URLs that lead to files, or into a private network."""
    from utils.files.download import downloaded
    from utils.inference.sources import open_source

    def opened(text: str) -> None:
        for _ in open_source(text):
            break

    for text in (
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://example.com/a.jpg",
        "gopher://x/a.jpg",
        "concat:/etc/passwd|x.mp4",
        "data://x/a.jpg",
    ):
        yield f"source: {text}", lambda text=text: opened(text), "not supported|no such file"
    streams = folder / "list.streams"
    streams.write_text("file:///etc/passwd\n")
    yield "source: a list of streams with file:", lambda: opened(str(streams)), "neither a webcam number nor"
    for text in ("http://[::1/a.jpg", "http://host:port/a.jpg", "http:///a.jpg"):
        yield f"source: {text}", lambda text=text: opened(text), "invalid URL|download failed"
    for kind, target in (("file", "file:///etc/passwd"), ("ftp", "ftp://127.0.0.1/a.jpg"), ("loop", "/again.jpg")):
        yield f"fetch: redirected to {kind}", lambda target=target: _redirected(downloaded, target), "redirects to|download failed"
    yield "fetch: a body without end", lambda: _endless(downloaded), "larger than"
    playlist = folder / "playlist.mp4"

    def played() -> None:
        with _server(lambda handler: handler.send_error(404)) as (port, asked):
            playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n")
            with contextlib.suppress(ValueError):
                opened(str(playlist))
            (folder / "concat.mp4").write_text(f"ffconcat version 1.0\nfile http://127.0.0.1:{port}/a.ts\n")
            with contextlib.suppress(ValueError):
                opened(str(folder / "concat.mp4"))
            assert not asked, f"a file made a request: {asked}"

    yield "video: a playlist that calls home", played, None


@contextlib.contextmanager
def _server(answer: Any) -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            with contextlib.suppress(OSError):
                answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()


def _redirected(downloaded: Any, target: str) -> None:
    def answer(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    with _server(answer) as (port, _), downloaded(f"http://127.0.0.1:{port}/a.jpg", timeout=5):
        pass


def _endless(downloaded: Any) -> None:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 16))

    with _server(answer) as (port, _), downloaded(f"http://127.0.0.1:{port}/a.jpg", max_bytes=1 << 20, timeout=5):
        pass
