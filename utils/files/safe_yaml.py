"""Parse untrusted YAML to plain data: no tags, and bounded expansion of aliases."""

from __future__ import annotations

import re
from typing import Any

import yaml

from utils.errors import UserError

MAX_NODES = 50_000
"""Values with every alias expanded, parsed in a second. The longest shipped file has 500, one with 20 000 class names 40 000."""
_TOO_MANY = f"it has more than {MAX_NODES} values"
_MAX_DEPTH = 20
_TOO_DEEP = f"nested more than {_MAX_DEPTH} levels, or in itself"
_MAX_KEY_LENGTH = 18  # characters of an integer
_MAX_NUMBER_LENGTH = 100  # characters; Python's own limit does not cover every notation
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp", "value")}


_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the parser in C, where there is one, is ten times faster
_SURROGATE, _SHORT = re.compile(r"\\[uU](?:0000)?[dD][89a-fA-F]"), 1 << 16
"""Paths that are no UTF-8 are written with escapes that the parser in C refuses; in files of up to 64 KiB they are read."""


def parse_yaml(text: str, where: str) -> Any:
    """Read a YAML document as dicts, lists, text, numbers, dates, True, False and None; `where` is its name in messages.

    Raises:
        UserError: not YAML, with tags, nested too deep, with aliases that multiply it, or with a key twice in one mapping.
    """
    loader = None
    try:
        kind = yaml.SafeLoader if len(text) < _SHORT and _SURROGATE.search(text) else _FAST
        _check_events(text, kind)
        loader = kind(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError, TypeError, RecursionError) as error:
        unread = "; such escapes are read in files of up to 64 KiB" if len(text) >= _SHORT and _SURROGATE.search(text) else ""
        raise UserError(f"{where}: not valid YAML ({' '.join(str(error).split())}{unread})") from error
    finally:
        if loader is not None:
            loader.dispose()


def _check_events(text: str, kind: Any) -> None:
    """Refuse explicit tags, and too many or too deeply nested values, before anything is composed."""
    nodes = depth = 0
    for event in yaml.parse(text, kind):
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if nodes > MAX_NODES:
            raise ValueError(_TOO_MANY)
        if depth > _MAX_DEPTH + 1:
            raise ValueError(_TOO_DEEP)
        if (tag := getattr(event, "tag", None)) is not None:
            raise ValueError(f"the tag {tag!r} is refused")


def _check(root: yaml.Node) -> None:
    """Count the values of the document with its aliases expanded, without expanding them."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        if isinstance(node, yaml.ScalarNode):
            if node.tag not in _TAGS:
                raise ValueError(f"the tag {node.tag!r} is refused")
            if node.tag.endswith((":int", ":float")) and len(node.value) > _MAX_NUMBER_LENGTH:
                raise ValueError(f"a number of {len(node.value)} characters")
            return 1 + len(node.value) // 1000
        if id(node) not in sizes:
            mapping = isinstance(node, yaml.MappingNode)
            if mapping:
                _check_keys([key for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            parts = [part for pair in node.value for part in pair] if mapping else node.value
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        if sizes[id(node)] > MAX_NODES:
            raise ValueError(_TOO_MANY)
        return sizes[id(node)]

    size(root, 0)


def _check_keys(keys: list[yaml.ScalarNode]) -> None:
    """Refuse a key that is given twice, of which PyYAML would take the last without a word, and numbers that are too large."""
    lines: dict[tuple[str, str], int] = {}
    for key in keys:
        if key.tag.endswith(":int") and len(key.value) > _MAX_KEY_LENGTH:
            raise ValueError("a key that is too large a number")  # such numbers can all have one hash: quadratic time
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in lines:
            raise ValueError(f"the key {key.value[:50]!r} in line {line} is in line {lines[name]} already; delete one of the two")
        lines[name] = line
