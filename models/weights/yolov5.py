"""Checkpoints of YOLOv5 and YOLOv8, read as inert objects by `utils.files.torch_file`: their tensors, model YAML and class names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from models.spec.model_spec import ModelSpec
from models.weights.yolov8 import KEYS, anchor_free
from utils.errors import UserError
from utils.files.safe_pickle import InertObject
from utils.log import LOG

_MAX_MODULES = 50_000
_MAX_VALUES = 200_000
_MAX_TEXT = 1000
_YAML_KEYS = ("nc", "depth_multiple", "width_multiple", "channel_multiple", "anchors", "backbone", "head", "activation", "ch")
_OTHER_TASKS = {"Segment": "segments", "Classify": "classifies", "Pose": "estimates poses", "OBB": "finds rotated boxes"}


def official_model(content: Any, where: str) -> InertObject:
    """The model of a checkpoint: the EMA weights if it has them, else the trained ones.

    Raises:
        UserError: not a YOLOv5 checkpoint.
    """
    if isinstance(content, InertObject):  # torch.save(model)
        return content
    if not isinstance(content, dict):
        raise UserError(f"{where}: contains {type(content).__name__}, not a YOLOv5 checkpoint")
    if content and all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{where}: contains tensors without their model; use the original YOLOv5 checkpoint")
    model = content.get("ema") or content.get("model")
    if not isinstance(model, InertObject):
        found = ", ".join(map(str, content)) or "nothing"
        raise UserError(f"{where}: not a YOLOv5 checkpoint: it has no model (its keys: {found[:200]})")
    return model


def official_spec(model: InertObject, where: str) -> ModelSpec:
    """The model's YAML as a spec, with the activation of its layers and its class names.

    Raises:
        UserError: it has none, is not for detection, or has rows without a registered module.
    """
    state = _attributes(model, where)
    content = state.get("yaml")
    foreign = model.type.module.startswith("ultralytics.")
    if (foreign and model.type.name != "DetectionModel") or not isinstance(content, dict) or "head" not in content:
        raise UserError(f"{where}: contains a {model.type}, which is not a YOLOv5 or YOLOv8 detector")
    content = plain({key: content[key] for key in (KEYS if foreign else _YAML_KEYS) if key in content}, where)
    for row in content["head"] if isinstance(content["head"], list) else ():
        name = row[2] if isinstance(row, list) and len(row) > 2 else None
        if isinstance(name, str) and name in _OTHER_TASKS:
            raise UserError(f"{where}: is a model that {_OTHER_TASKS[name]} (its head is {name}); Attune detects boxes")
    if foreign:
        content = anchor_free(content, where)
    if "activation" not in content:
        content["activation"] = _activation(model, where)
    nc = content.get("nc", 80)
    return ModelSpec.from_dict({**content, "names": _names(state.get("names"), nc, where)}, where)


def official_state(model: InertObject, where: str) -> dict[str, Tensor]:
    """The tensors by their state_dict keys, floating-point ones in float32.

    The anchor grids that files up to YOLOv5 5.0 hold as buffers repeat the anchors and are left out.
    """
    state: dict[str, Tensor] = {}
    converted: dict[int, Tensor] = {}  # shared tensors are converted once
    for prefix, module in _modules(model, where):
        attributes = _attributes(module, where)
        passing = attributes.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _mapping(attributes.get(kind), where).items():
                if tensor is None or name in passing or (kind == "_buffers" and name == "anchor_grid"):
                    continue
                if not isinstance(tensor, Tensor):
                    raise UserError(f"{where}: {prefix}{name} is an unsupported kind of tensor")
                if id(tensor) not in converted:
                    converted[id(tensor)] = tensor.float().clone() if tensor.is_floating_point() else tensor.clone()
                state[f"{prefix}{name}"] = converted[id(tensor)]
    return state


def plain(value: Any, where: str) -> Any:
    """A copy of plain data from a file: lists, dicts, text, numbers, None, of bounded depth and size.

    Raises:
        UserError: something else is in it.
    """
    left = _MAX_VALUES

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth < 0:
            raise UserError(f"{where}: its model YAML is nested too deeply or too long")
        if isinstance(value, dict):
            return {copy(k, 0): copy(v, depth - 1) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [copy(v, depth - 1) for v in value]
        if value is None or type(value) in (float, bool) or (type(value) is str and len(value) <= _MAX_TEXT):
            return value
        if type(value) is int and abs(value) < 1 << 63:
            return value
        if type(value) in (str, int):
            raise UserError(f"{where}: its model YAML contains a string or number that is too long")
        raise UserError(f"{where}: its model YAML contains a {value.type if isinstance(value, InertObject) else type(value).__name__}")

    return copy(value, 10)


def _modules(model: InertObject, where: str) -> Iterator[tuple[str, InertObject]]:
    """`model` and all its submodules, each with the prefix of its state_dict keys; a shared one several times."""
    waiting, count = [("", model)], 0
    while waiting:
        prefix, module = waiting.pop()
        count += 1
        if count > _MAX_MODULES or len(prefix) > 1000:
            raise UserError(f"{where}: its modules are nested too deeply")
        yield prefix, module
        children = _mapping(_attributes(module, where).get("_modules"), where)
        waiting += [(f"{prefix}{name}.", child) for name, child in reversed(children.items()) if isinstance(child, InertObject)]


def _attributes(module: InertObject, where: str) -> Mapping[str, Any]:
    return _mapping(module.state, where)


def _mapping(value: object, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UserError(f"{where}: it contains a module in a format that PyTorch does not write")
    return value


def _activation(model: InertObject, where: str) -> str | None:
    """The expression for the activation of the model's convolutions: Hardswish or LeakyReLU before YOLOv5 4.0, SiLU (None) since."""
    found = {}
    for prefix, module in _modules(model, where):
        act = _mapping(_attributes(module, where).get("_modules"), where).get("act")
        if not isinstance(act, InertObject) or act.type.name in ("SiLU", "Identity"):
            continue
        if module.type.name == "BottleneckCSP":
            raise UserError(f"{where}: is of YOLOv5 before 4.0, whose BottleneckCSP ({prefix}act is {act.type.name}) is not supported")
        if module.type.name == "Conv":
            slope = _attributes(act, where).get("negative_slope")
            found[f"nn.{act.type.name}({slope if isinstance(slope, float) else ''})"] = prefix
    if len(found) > 1:
        raise UserError(f"{where}: its convolutions have different activations ({', '.join(found)})")
    return next(iter(found), None)


def _names(names: object, nc: object, where: str) -> list[str] | None:
    """Class names as a list of `nc`; missing ones are class0, class1, ..., as in YOLOv5."""
    if isinstance(names, dict) and all(type(k) is int for k in names):
        given = dict(names)
    else:
        given = dict(enumerate(names)) if isinstance(names, list | tuple) else {}
    if type(nc) is not int or not 1 <= nc <= _MAX_VALUES:
        return None  # rejected by ModelSpec
    if set(given) != set(range(nc)):
        LOG.warning("%s: has %d class names for %d classes; using the number of classes of the head", where, len(given), nc)
    return [given[i] if isinstance(given.get(i), str) else f"class{i}" for i in range(nc)]
