"""Untrusted YAML: plain data comes out, and aliases cannot multiply it."""

from __future__ import annotations

import datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import UserError
from utils.files.safe_yaml import MAX_NODES, parse_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGED = "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


def test_plain_data() -> None:
    text = "a: &x [1, 2.5, yes, null, text, 2026-01-02]\nb: *x\nc: {<<: {d: 1}, e: '2'}"
    first = [1, 2.5, True, None, "text", datetime.date(2026, 1, 2)]
    assert parse_yaml(text, "f") == {"a": first, "b": first, "c": {"d": 1, "e": "2"}}
    assert parse_yaml("", "f") is None
    assert parse_yaml("a: &x {k: 1}\nb: {<<: *x, k: 2}\nc: {1: x, '1': y}", "f") == {"a": {"k": 1}, "b": {"k": 2}, "c": {1: "x", "1": "y"}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: !!python/object/apply:os.system [id]", "tag"),
        ("a: !!python/name:os.system", "tag"),
        ("a: !anything 1", "tag"),
        ("!!timestamp x", "tag"),
        ("a: !!int ''", "tag"),
        ("a: !!bool maybe", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("%TAG ! tag:yaml.org,2002:python/\n---\n!name:os.system", "tag"),
        (LAUGHS, "more than 50000 values"),
        (MERGED, "more than 50000 values"),
        ("a: &a [*a]", "in itself"),
        ("&a {<<: *a}", "in itself"),
        ("[" * 22 + "]" * 22, "nested more than 20"),
        ("[" * 100_000, "recursion|nested more|nesting"),
        ("- " * 100_000, "recursion|nested more|nesting"),
        ("a: 1" + ":1" * 10_000, "a number of 20001 characters"),
        ("a: 0x" + "f" * 10_000, "a number of 10002 characters"),
        ("[" + "1," * 60_000 + "]", "more than 50000 values"),
        ("? [a]\n: 1", "unhashable"),
        ("a: [", "expected"),
        ("--- 1\n--- 2", "single document"),
        ("a: 2026-99-99", "month"),
        ("\x00", "special characters|control characters"),
        ("a: *b", "undefined alias"),
        ("=", "value"),
        ("nc: 3\nnames: {0: a, 1: b, 0: c}\n", "the key '0' in line 2 is in line 2 already"),
        ("lr0: 0.1\na: {b: 1}\n'lr0': 0.2", "the key 'lr0' in line 3 is in line 1 already; delete one"),
        ("- &k a\n- {*k : 1, a: 2}", "the key 'a' in line 2 is in line 1 already"),
    ],
)
def test_refused_before_much_is_read(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, fetch = 0, yaml.scanner.Scanner.fetch_more_tokens

    def counted(scanner: yaml.scanner.Scanner) -> None:
        nonlocal tokens
        tokens += 1
        fetch(scanner)

    monkeypatch.setattr(yaml.scanner.Scanner, "fetch_more_tokens", counted)
    with pytest.raises(UserError, match=f"(?s)^f: not valid YAML .*{reason}"):
        parse_yaml(text, "f")
    assert tokens < 2.1 * MAX_NODES, "a value and a comma each"


@given(st.text(alphabet="ab01:-[]{}&*!?|>'\"%@#,.<~ \n\t", max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_plain_data_or_one_error(text: str) -> None:
    try:
        value = parse_yaml(text, "f")
    except UserError as error:
        message = str(error)
        assert message.startswith("f: ")
    else:
        assert value is None or isinstance(value, str | int | float | bool | list | dict | datetime.date)


def test_a_path_that_is_no_utf8_is_read_back():
    content = {"path": "a\udcff/b", "names": ["\U0001f600", "\x1b"]}
    assert parse_yaml(yaml.safe_dump(content, allow_unicode=True), "f") == content
