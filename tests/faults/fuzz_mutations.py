"""Ways of spoiling an input: its bytes, its tokens, or the tree that it describes."""

from __future__ import annotations

import copy
import math
import random
import re
from typing import Any

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 7, 80, 1.5, -0.5, 1e-9, 1e308, math.nan, math.inf, -math.inf, 10**9, 10**18, 10**30, -(2**63)),
    *(
        "",
        " ",
        "x",
        "nc",
        "anchors",
        "None",
        "True",
        "nearest",
        "nn.SiLU",
        "nn.SiLU()",
        "nn.X(1)",
        "__class__",
        "../../x",
        "~nobody/x",
    ),
    *("\x00", "\x1b[2J", "\ud800", "\u202e", "\U0001f600" * 50, "a" * 5000, "1e400", "1e-3", "-", "/dev/null", "0", "-1", "NaN"),
    *("Detect", "Conv", "C3", "SPPF", "Concat", "Upsample", "CoordAtt", "SE", "C3CoT", "BoT", "HorNet", "Feature", "yolov5n.yaml", "zero"),
    *([], {}, [[]], [1], [None], [-1, 1, "Conv", [8]], {"a": 1}, {0: "x"}, [[10, 13, 16, 30]], [0] * 50, {"after": 1}, {1.5: []}),
)
WORDS = (
    *(
        b"nan",
        b"inf",
        b"-inf",
        b"1e400",
        b"-1",
        b"0",
        b"1.5",
        b"99999999999999999999",
        b"1e-320",
        b"0x10",
        b"1_0",
        b"\xef\xbb\xbf",
        b"\r\n",
    ),
    *(
        b"\x00",
        b"\xff",
        b"\xfe\xff",
        b"\xc3\x28",
        b"\t",
        b" ",
        b"\n",
        b"---",
        b"&a",
        b"*a",
        b"!!int ",
        b"<<: ",
        b"[",
        b"]",
        b"{",
        b"}",
        b"'",
    ),
    *(b'"', b":", b"#", b"|", b">", b"%", b"@", b"<", b"&lt;", b"&#0;", b"</object>", b"<!--", b"<![CDATA[", b"true", b"null", b"~", b",,"),
)


def spoil_bytes(data: bytes, rng: random.Random, most: int = 4) -> bytes:
    """Flip, cut, repeat, insert, or replace by a word, one to `most` times."""
    out = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at : at + rng.choice((1, 2, 8, 64, 1024))]
        elif kind == 3:
            out[at:at] = out[at : at + rng.choice((1, 4, 32, 256))] * rng.choice((1, 2, 50))
        elif kind == 4:
            out[at:at] = rng.choice(WORDS)
        elif kind == 5:
            del out[at:]
        else:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 16)))
    return bytes(out)


def spoil_tokens(data: bytes, rng: random.Random) -> bytes:
    """Replace one to three of the numbers and words."""
    parts = re.split(rb"([\w.+-]+)", data)
    for _ in range(rng.randint(1, 3)):
        if len(parts) > 1:
            parts[rng.randrange(1, len(parts), 2)] = rng.choice(WORDS)
    return b"".join(parts)


def spoil_tree(tree: Any, rng: random.Random) -> Any:
    """Replace, remove, repeat or exchange one to three values of plain data."""
    root = [copy.deepcopy(tree)]
    for _ in range(rng.randint(1, 3)):
        spots = list(_spots(root))
        holder, key = spots[rng.randrange(len(spots))]
        kind = rng.randrange(6)
        if kind == 0 and holder is not root:
            del holder[key]
        elif kind == 1 and isinstance(holder, list) and holder is not root:
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2:
            other, its = rng.choice(spots)
            holder[key] = copy.deepcopy(other[its])
        elif kind == 3 and isinstance(holder, dict):
            holder[rng.choice([k for k in NASTY if not isinstance(k, list | dict)])] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(rng.choice(NASTY))
    return root[0]


def _spots(value: Any) -> Any:
    """Every (holder, key) below a list or dict."""
    for key in range(len(value)) if isinstance(value, list) else list(value):
        yield value, key
        if isinstance(value[key], list | dict):
            yield from _spots(value[key])
