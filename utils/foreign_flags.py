"""Flags of YOLOv5 and YOLOAir that the scripts do not have: those that are ignored, and what to do in place of the others."""

from __future__ import annotations

from collections.abc import Sequence

_SEARCH = "--evolve N begins with the given hyper-parameters and keeps one population; --resume FOLDER goes on with it"
_ASSIGNER = "YOLOAir's choice of loss and assigner; here --box-loss, --cls-loss and --obj-loss choose the losses"

IGNORED = {
    "--entity": "Weights & Biases is not used; the figures are in results.csv, and in TensorBoard where it is installed",
    "--upload-dataset": "Weights & Biases is not used; nothing is uploaded",
    "--bbox-interval": "Weights & Biases is not used; val_batch*.jpg show the detections",
    "--artifact-alias": "Weights & Biases is not used; nothing is uploaded",
    "--log-imgs": "Weights & Biases is not used; val_batch*.jpg show the detections",
    "--log-artifacts": "Weights & Biases is not used; nothing is uploaded",
    "--linear-lr": "the learning rate is linear unless --cos-lr is given",
    "--inplace": "a Python detail of YOLOv5; there is nothing to choose here",
    "--dnn": "OpenCV's DNN module is not used; an .onnx file given as --weights runs with onnxruntime",
    "--update": "no weights need stripping: a finished training does that itself",
}
"""Loggers' flags and those that change nothing, with what is so instead. They may have one value."""

REFUSED = {
    "--evolve-population": _SEARCH,
    "--resume-evolve": _SEARCH,
    "--bucket": "nothing is uploaded; copy the run folder yourself",
    "--quad": "there is no quad dataloader; --multi-scale trains at several sizes",
    "--adam": "use --optimizer Adam",
    "--notest": "use --noval",
    "--img-weights": "use --image-weights",
    "--visualize": "feature maps are not drawn; --attention explains each image by LayerCAM and the attention maps of the blocks",
    "--mlmodel": "the old Core ML format is not written; --include coreml writes an ML program",
    "--keras": "TensorFlow formats are not written; export to ONNX and convert that",
    "--per-tensor": "TensorFlow formats are not written; --int8 quantises OpenVINO and ONNX",
    "--optimize": "TorchScript is not optimised for phones; --include litert, coreml or ncnn",
    "--train": "an exported model is in evaluation mode",
    "--verbose": "the exporters' own log is not shown",
    "--cache": "no timing cache is kept",
    "--loss": _ASSIGNER,
    "--otaloss": _ASSIGNER,
    "--auxotaloss": _ASSIGNER,
}
"""Other flags, with what to do instead. A flag that a script has is never looked up here."""


def without_ignored(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments that a script does not know into those left, and the ignored flags; values are dropped."""
    others: list[str] = []
    ignored: list[str] = []
    skip_value = False
    for argument in arguments:
        flag, _, value = argument.partition("=")
        if skip_value and (not argument.startswith("-") or argument[1:].isdigit()):
            skip_value = False
            continue
        skip_value = flag in IGNORED and not value
        (ignored if flag in IGNORED else others).append(flag)
    return others, ignored
