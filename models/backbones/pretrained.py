"""Loading an authors' checkpoint into a backbone by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from utils.errors import UserError
from utils.files.torch_file import read_torch_file

_WRAPPERS = ("state_dict", "model")
_COUNTER = ".num_batches_tracked"

State = dict[str, Tensor]


def load_pretrained(
    network: nn.Module,
    path: str | Path,
    *,
    unused: Sequence[str] = (),
    own: Sequence[str] = (),
    convert: Callable[[State], State] | None = None,
) -> None:
    """Load a checkpoint with the network's state_dict keys; nothing in the file is executed.

    Args:
        network: the backbone.
        path: a state_dict, bare or under one of the usual keys, of the network or of a detector with this backbone.
        unused: prefixes of keys that the backbone does not have (the classification head).
        own: prefixes of keys that the checkpoint may lack (the norms of the outputs).
        convert: changes keys or layout.

    Raises:
        UserError: unreadable, or another architecture; names the first tensor that does not fit.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        raise UserError(f"pretrained={path}: no such file")
    state = _state_of(_read_safetensors(path) if Path(path).suffix == ".safetensors" else read_torch_file(path), path)
    if convert is not None:
        state = convert(state)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(tuple(unused))}
    expected, refusal = network.state_dict(), f"pretrained={path}: not weights of this {type(network).__name__}"
    for name, tensor in state.items():
        if name not in expected or expected[name].shape != tensor.shape:
            there = f"{tuple(expected[name].shape)} in the network" if name in expected else "not in the network"
            raise UserError(f"{refusal}: {name} is {tuple(tensor.shape)} in the file, {there}")
    lacking = [n for n in expected if n not in state and not n.startswith(tuple(own)) and not n.endswith(_COUNTER)]
    if lacking:
        raise UserError(f"{refusal}: {len(lacking)} tensors are missing, the first is {lacking[0]}")
    network.load_state_dict(state, strict=False)


def _read_safetensors(path: str | Path) -> State:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(f"pretrained={path}: needs a package: pip install safetensors") from error
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"pretrained={path}: damaged, or no safetensors file ({error})") from error


def _state_of(content: object, path: str | Path) -> State:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"pretrained={path}: contains no state_dict")
    state = {str(name).removeprefix("module."): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    for part in ("backbone.", "bottom_up."):  # of a detector, and in it of a feature pyramid
        if any(name.startswith(part) for name in state):
            state = {name.removeprefix(part): tensor for name, tensor in state.items() if name.startswith(part)}
    if not state:
        raise UserError(f"pretrained={path}: contains no state_dict")
    return state
