"""YAML of strangers -> plain data. No tag is followed, and no text may stand for more than it holds."""

from __future__ import annotations

from typing import Any

import yaml

from utils.errors import UserError

MOST_NODES = 50_000
"""Values, with every alias written out: a second's work. The longest shipped file has 500, one that names 20 000 classes 40 000."""
_TOO_MANY = f"it holds more than {MOST_NODES} values"
_DEEPEST = 20
_LONGEST_NUMBER = 100  # characters; Python's own limit leaves out some ways of writing one
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp", "value")}


class _Loader(yaml.SafeLoader):
    """Refuses every tag that is written out, and the value after the last, before anything is made of it."""

    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose the node of the next event."""
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise ValueError(_TOO_MANY)
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem=f"the tag {event.tag!r} is refused", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def parse_yaml(text: str, where: str) -> Any:
    """Read a YAML document as dicts, lists, text, numbers, dates, True, False and None; `where` is its name in messages.

    Raises:
        UserError: not YAML, with tags, nested without end, or with aliases that multiply it.
    """
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{where}: not valid YAML ({' '.join(str(error).split())})") from error
    finally:
        if loader is not None:
            loader.dispose()


def _check(root: yaml.Node) -> None:
    """Measure what the document is once its aliases are written out, without writing them out."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep, or in itself")
        if isinstance(node, yaml.ScalarNode):
            if node.tag not in _TAGS:
                raise ValueError(f"the tag {node.tag!r} is refused")
            if node.tag.endswith((":int", ":float")) and len(node.value) > _LONGEST_NUMBER:
                raise ValueError(f"a number of {len(node.value)} characters")
            return 1 + len(node.value) // 1000
        if id(node) not in sizes:
            mapping = isinstance(node, yaml.MappingNode)
            parts = [part for pair in node.value for part in pair] if mapping else node.value
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        if sizes[id(node)] > MOST_NODES:
            raise ValueError(_TOO_MANY)
        return sizes[id(node)]

    size(root, 0)
