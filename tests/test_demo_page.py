"""``python -m utils.demo`` in a real browser: what a visitor does with it, at a desk and on a phone, and what one may not do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from models import build_model
from models.weights.load import read_weights
from models.weights.transfer import transfer
from tests.test_report_browser import CHROMIUM, FLAGS, PHONE, WIDE
from utils.config import ROOT
from utils.demo.viewer import MAX_PIXELS
from utils.training.checkpoint import save_checkpoint

pytest.importorskip("gradio", reason="gradio is not installed", exc_type=ImportError)
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium in /usr/bin; apt-get install chromium")]
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
WAIT = 60_000
"""Milliseconds; a loaded machine is slow."""


@pytest.fixture(scope="module")
def variant(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOv5n's weights in a model with coordinate attention, and a name that is markup."""
    weights = read_weights(shared / "yolov5n.pt")
    model = build_model("yolov5n-ca", 80, names={**weights.names, 0: "<img src=x>"})
    transfer(model, weights)
    path = tmp_path_factory.mktemp("weights") / "yolov5n-ca.pt"
    rest = {"config": {}, "hyp": {}, "epoch": 0, "metrics": {}, "ema": None, "resume": None}
    save_checkpoint(path, {"attune": 1, "spec": model.spec.to_dict(), "names": model.names, "model": model.state_dict(), **rest})
    return path


@contextlib.contextmanager
def served(*weights: Path, folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address and the process of a page whose temporary files lie in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "utils.demo", "--weights", *map(str, weights), "--imgsz", "320"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    with subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address, *_ = process.stdout.readline().partition(" shows ")
        assert address == f"http://127.0.0.1:{port}"
        yield address, process
        process.terminate()


@pytest.fixture(scope="module")
def address(shared: Path, variant: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(shared / "yolov5n.pt", variant, folder=tmp_path_factory.mktemp("temporary")) as (address, _):
        yield address


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_sent_is_gone_when_the_page_ends(shared: Path, tmp_path: Path, number: int) -> None:
    with served(shared / "yolov5n.pt", folder=tmp_path) as (address, process):
        form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nsent\r\n--b--\r\n'
        sent = urllib.request.Request(f"{address}/gradio_api/upload", form, {"Content-Type": "multipart/form-data; boundary=b"})
        urllib.request.urlopen(sent).close()
        assert [path.read_text() for path in tmp_path.rglob("a.txt")] == ["sent"]
        process.send_signal(number)
        assert process.wait(60) == 0
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*FLAGS, *CAMERA])
        yield browser
        browser.close()


@pytest.fixture(params=[WIDE, PHONE])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": request.param, "height": 900}, permissions=["camera"])
    context.set_default_timeout(WAIT)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda sent: wrong.append(sent.url) if not sent.url.startswith((address, "data:", "blob:")) else None)
    page.goto(address)
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()
    assert not wrong


def upload(page: Any, path: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(str(path))


def found(page: Any) -> list[str]:
    """What is written below each model's picture."""
    return page.locator(".found .prose").all_inner_texts()


def until(page: Any, condition: str) -> None:
    texts = "[...document.querySelectorAll('.found .prose')].map(n => n.innerText)"
    page.wait_for_function(f"() => {{ const found = {texts}; return {condition} }}")


@pytest.fixture
def street(shared: Path) -> Path:
    return shared / "coco128" / "images" / "train2017" / "000000000641.jpg"


def test_a_picture_a_slider_and_the_maps(page: Any, street: Path) -> None:
    upload(page, street)
    until(page, "found.every(text => text.includes('ms at 320 x 224'))")
    assert found(page)[0].startswith("3 persons, 1 bus")
    assert page.locator("img[src=x]").count() == 0
    slider = page.get_by_role("slider").first
    slider.focus()
    page.keyboard.press("End")
    page.keyboard.up("End")
    slider.dispatch_event("pointerup")
    until(page, "found.every(text => text.startsWith('(no detections)'))")
    page.get_by_role("spinbutton").first.fill("0.5")
    page.keyboard.press("Enter")
    slider.dispatch_event("pointerup")
    until(page, "found[0].startsWith('1 bus')")
    page.get_by_label("Attention maps").check()
    page.wait_for_function("[...document.querySelectorAll('img')].filter(n => n.naturalHeight && n.offsetParent).length === 4")


def test_a_click_chooses_what_is_explained(page: Any, street: Path) -> None:
    upload(page, street)
    until(page, "found.every(text => text.includes('ms at'))")
    page.locator("img").first.click(position={"x": 150, "y": 120})
    page.wait_for_function("[...document.querySelectorAll('img')].filter(n => n.naturalHeight && n.offsetParent).length === 4")
    assert page.get_by_label("Attention maps").is_checked()


def test_a_video(page: Any, shared: Path, tmp_path: Path) -> None:
    from tests.utils.inference.test_tracking import bottle_clip

    bottle_clip(tmp_path / "clip.mp4", shared)
    upload(page, tmp_path / "clip.mp4")
    page.wait_for_function("[...document.querySelectorAll('video')].filter(n => n.videoWidth === 320 && n.readyState >= 2).length === 2")


def test_the_webcam(page: Any) -> None:
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="capture photo").click()
    until(page, "found.every(text => text.includes('ms at'))")


def test_bad_uploads_give_a_message_and_the_page_stays(page: Any, street: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(street.read_bytes()[:5000])
    text = tmp_path / "<b>text.png"
    text.write_text("no picture")
    huge = tmp_path / "huge.png"
    cv2.imwrite(str(huge), np.zeros((MAX_PIXELS // 7000 + 1, 7000), np.uint8))
    film = tmp_path / "film.mp4"
    film.write_bytes(b"no video")
    message = page.locator("#message [role=alert]")
    for path, says in (
        (cut, "cut.jpg: damaged"),
        (text, "damaged, or not an image"),
        (huge, "50 megapixels"),
        (film, "film.mp4: not a video"),
    ):
        upload(page, path)
        message.filter(has_text=says).wait_for()
        assert str(tmp_path) not in message.inner_text()
        assert "attune-demo-" not in message.inner_text()
        page.get_by_label("Clear").first.click()
        message.wait_for(state="hidden")
    upload(page, street)
    until(page, "found[0].startsWith('3 persons, 1 bus')")


@pytest.mark.parametrize("path", ["/etc/passwd", str(ROOT / "README.md"), "https://example.org/a.jpg"])
def test_no_path_or_address_is_taken_from_the_browser(address: str, path: str) -> None:
    with urllib.request.urlopen(f"{address}/config") as answer:
        config = json.load(answer)
    change = next(d for d in config["dependencies"] if len(d["inputs"]) == 5)
    data = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, 0.25, 0.45, False, None], "fn_index": change["id"]}
    sent = urllib.request.Request(
        f"{address}/gradio_api/queue/join", json.dumps(data | {"session_hash": "s"}).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(sent).close()
    with urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash=s", timeout=WAIT / 1000) as events:
        done = next(line for line in events if b"process_completed" in line)
    assert json.loads(done.removeprefix(b"data: "))["success"] is False
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{address}/gradio_api/file={path}")
