"""The page, written with gradio: an upload or the webcam on one side, what each model finds on the other."""

from __future__ import annotations

import html
import importlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.demo.viewer import Image, Viewer, picture, read_picture
from utils.errors import UserError
from utils.inference.results import Results
from utils.inference.sources import is_video
from utils.log import LOG
from utils.signals import stop_requests

MAX_UPLOAD = 256 << 20
"""Largest file that the browser may send, in bytes."""
CSS = """
footer { display: none !important }
.problem { border: 1px solid #d33; border-radius: 8px; padding: 8px 12px }
.found { font-size: 1.05em; overflow-wrap: anywhere }
"""


def serve(viewer: Viewer, host: str, port: int) -> None:
    """Serve the page until Ctrl-C or SIGTERM; what the browser sends lies in a temporary folder, which is removed at the end.

    Raises:
        UserError: gradio is not installed, or the address cannot be listened on.
    """
    with stop_requests(quiet=True) as request, TemporaryDirectory(prefix="attune-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # before the import, which makes the folder
        try:
            gr = importlib.import_module("gradio")
        except ImportError as error:
            raise UserError("python -m utils.demo needs gradio: pip install gradio") from error
        page = Page(gr, viewer, Path(folder)).blocks
        try:
            page.queue(max_size=20, api_open=False).launch(
                server_name=host,
                server_port=port,
                max_file_size=MAX_UPLOAD,
                share=False,
                run_history=False,
                ssr_mode=False,
                footer_links=[],
                css=CSS,
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise UserError(f"--host {host} --port {port}: cannot be listened on ({error}); choose another --port") from error
        LOG.info("http://%s:%d shows %s; Ctrl-C ends", host, port, ", ".join(viewer.models))
        while not request.by:
            time.sleep(0.1)
        page.close()


async def _refuse_addresses(path: str) -> str:
    """Stand in for gradio's step that downloads an input whose path is a URL."""
    if "://" in path:
        raise UserError("send the picture itself, not its address")
    return path


class Page:
    """The parts of the page and what happens when they are used.

    Attributes:
        blocks: what gradio launches.
    """

    def __init__(self, gr: Any, viewer: Viewer, folder: Path) -> None:
        """Lay out the page; `folder` is for videos."""
        self._gr, self._viewer, self._folder = gr, viewer, folder
        with gr.Blocks(title="Attune", analytics_enabled=False, delete_cache=(600, 3600)) as self.blocks:
            gr.Markdown(f"# Detect with {html.escape(' and '.join(viewer.models))}" if len(viewer.models) == 1 else "# Models side by side")
            with gr.Row():
                with gr.Column(scale=1, min_width=300):
                    self._inputs()
                with gr.Column(scale=3, min_width=300):
                    self._outputs()
            self._wire()

    def _inputs(self) -> None:
        gr = self._gr
        with gr.Tab("Picture or video"):
            self.file = gr.File(label="Picture or video", file_types=["image", "video"], height=150)
        with gr.Tab("Webcam"):
            self.camera = gr.Image(label="Webcam", sources=["webcam"], streaming=True, buttons=[])
        for part in (self.file, self.camera):
            part.async_move_resource_to_block_cache = _refuse_addresses
        self.conf = gr.Slider(0, 1, 0.25, step=0.01, label="Minimum confidence")
        self.iou = gr.Slider(0, 1, 0.45, step=0.01, label="Maximum IoU of two boxes")
        self.maps = gr.Checkbox(label="Attention maps", info="and LayerCAM of the most confident detection, or of the one you click on")
        self.point = gr.State(None)

    def _outputs(self) -> None:
        gr = self._gr
        self.message = gr.HTML(visible=False, elem_id="message")
        self.pictures, self.videos, self.texts, self.sheets = [], [], [], []
        with gr.Row():
            for name in self._viewer.models:
                with gr.Column(min_width=300):
                    self.pictures.append(gr.Image(label=name, interactive=False, buttons=["fullscreen", "download"]))
                    self.videos.append(gr.Video(label=name, interactive=False, visible=False, autoplay=True, loop=True))
                    self.texts.append(gr.HTML(elem_classes="found"))
                    self.sheets.append(gr.Image(show_label=False, interactive=False, visible=False, buttons=["fullscreen"]))

    def _wire(self) -> None:
        gr = self._gr
        settings = [self.conf, self.iou, self.maps, self.point]
        outputs = [self.message, *self.pictures, *self.videos, *self.texts, *self.sheets]
        alone = {"concurrency_id": "models", "concurrency_limit": 1, "api_visibility": "private"}

        def show(path: str | None, *values: Any, progress: Any = gr.Progress()) -> list[Any]:  # noqa: B008  how gradio finds it
            return self._guarded(path, lambda: self._show(path, *values, progress=progress))

        def look(image: NDArray[np.uint8] | None, conf: float, iou: float) -> list[Any]:
            return self._guarded(None, lambda: [] if image is None else self._found(self._viewer.detect(_swapped(image), conf, iou)))

        def choose(event: Any) -> tuple[Sequence[float], bool]:
            return event.index, True

        choose.__annotations__["event"] = gr.SelectData
        again = {"fn": show, "inputs": [self.file, *settings], "outputs": outputs, **alone}
        self.file.change(lambda: None, None, self.point, api_visibility="private").then(**again)
        for slider in (self.conf, self.iou):
            slider.release(**again, trigger_mode="always_last")
        self.maps.input(**again)
        for shown in self.pictures:
            shown.select(choose, None, [self.point, self.maps], api_visibility="private").then(**again)
        self.camera.stream(look, [self.camera, self.conf, self.iou], outputs, show_progress="hidden", stream_every=0.2, **alone)

    def _guarded(self, path: str | None, show: Callable[[], list[Any]]) -> list[Any]:
        """What `show` gives, or a message about what is wrong with the file at `path`."""
        try:
            return show() or self._found([])
        except UserError as error:
            text = str(error).replace(path, Path(path).name) if path else str(error)
            return self._found([], message=text)

    def _show(self, path: str | None, conf: float, iou: float, maps: bool, point: Sequence[float] | None, *, progress: Any) -> list[Any]:
        if path is None:
            return []
        if is_video(Path(path)):
            progress(0, desc="video")
            videos, missing = self._viewer.video(Path(path), self._folder, conf, iou, lambda done, of: progress((done, of), unit="frames"))
            return self._found([], videos=videos, message=missing)
        found = self._viewer.detect(read_picture(Path(path)), conf, iou)
        return self._found(found, sheets=self._viewer.explain(found, point) if maps else [])

    def _found(
        self, found: Sequence[Results], *, videos: Sequence[Path] = (), sheets: Sequence[Image | None] = (), message: str = ""
    ) -> list[Any]:
        """The values of all outputs."""
        update, count = self._gr.update, len(self._viewer.models)
        blank: list[Any] = [None] * count
        pictures, texts = [_swapped(picture(one)) for one in found] or blank, [_text(one) for one in found] or [""] * count
        return [
            update(value=f'<div role="alert" class="problem">{html.escape(message)}</div>' if message else "", visible=bool(message)),
            *(update(value=one, visible=not videos) for one in pictures),
            *(update(value=None if one is None else str(one), visible=one is not None) for one in list(videos) or blank),
            *texts,
            *(update(value=None if one is None else _swapped(one), visible=one is not None) for one in list(sheets) or blank),
        ]


def _swapped(image: Image) -> Image:
    """BGR to RGB, or back."""
    return np.ascontiguousarray(image[..., ::-1])


def _text(results: Results) -> str:
    """What was found, and how long it took."""
    height, width = results.shape
    return f"{html.escape(results.summary())}<br><small>{results.speed['inference']:.0f} ms at {width} x {height}</small>"
