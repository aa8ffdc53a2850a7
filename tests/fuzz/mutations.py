"""Mutations of valid documents: of their structure, found by Hypothesis, and of their bytes."""

from __future__ import annotations

import copy
import json
import sys
import tomllib
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

DIGITS = "\ue000digits\ue000"
"""Stands for a whole number of 5,000 digits, which Python itself refuses to spell."""


def _nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, DIGITS, 0.5, -0.0, 1e308, 5e-324),
    *("", " ", "\0", "a\0b", "\n", "~nosuchuser", "~nosuchuser/x.whl", "../../etc/passwd", "/dev/zero", "/dev/stdin"),
    *("a" * 5000, "/" + "a/" * 2500 + "x.yaml", "9" * 5000, "1." * 2500, ">=" + "9" * 5000, "==1.*.*", "latest", "all"),
    *("nan", "inf", "-inf", "\u202e\x1b[2J", "\ud800", "${x}", "$(id)", "{{7*7}}", "%s%n", "<script>", "v1-h1", "∞"),
    *([], [[]], [None], [1, "a", None], ["a"] * 2000, list(range(3000)), {}, {"": ""}, {"a": {"b": {"c": 1}}}),
    *(_nested(60), _nested(200), {"x" * 3000: 1}, {str(number): number for number in range(2000)}),
)
"""Values of wrong types, sizes and meanings."""

Dump = Callable[[Any], bytes]


@st.composite
def documents(draw: st.DrawFn, seeds: tuple[Any, ...], dump: Dump) -> bytes:
    """One of the seeds with one to three places changed."""
    found = [json.loads(json.dumps(draw(st.sampled_from(seeds)), default=str))]
    for _ in range(draw(st.integers(1, 3))):
        _mutate(draw, found)
    return dump(found[0])


def _mutate(draw: st.DrawFn, root: list[Any]) -> None:
    holder, key = root, 0
    for _ in range(draw(st.integers(0, 6))):
        inner = holder[key]
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner))) if isinstance(inner, list) else []
        if not keys:
            break
        holder, key = inner, draw(st.sampled_from(keys[:200]))
    deed = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add", "double", "swap")))
    if deed == "replace":
        holder[key] = _hostile(draw)
    elif deed == "remove" and holder is not root:
        del holder[key]
    elif deed == "add" and isinstance(holder[key], dict):
        added = ("", "unknown", "schema", "\0", "__class__", "a" * 3000)
        holder[key][draw(st.sampled_from(added))] = _hostile(draw)
    elif deed == "double" and isinstance(holder[key], list):
        holder[key] = [*holder[key], *holder[key]]
    elif deed == "swap" and isinstance(holder, dict) and len(holder) > 1:
        other = draw(st.sampled_from(sorted(holder, key=str)[:200]))
        holder[key], holder[other] = holder[other], holder[key]


def _hostile(draw: st.DrawFn) -> Any:
    """A copy: what is put into a document may be mutated itself."""
    return copy.deepcopy(HOSTILE[draw(st.integers(0, len(HOSTILE) - 1))])


def as_json(value: Any) -> bytes:
    """JSON, with the number of 5,000 digits spelled out."""
    text = json.dumps(value)
    return text.replace(json.dumps(DIGITS), "9" * 5000).encode()


def as_toml(value: Any) -> bytes:
    """TOML of a table; what TOML has no word for is left out."""
    lines = (
        [f"{json.dumps(str(key))} = {_toml(one)}" for key, one in value.items() if one is not None]
        if isinstance(value, dict)
        else [f"x = {_toml(value)}"]
    )
    return "\n".join(lines).encode("utf-8", "replace")


def _toml(value: Any) -> str:
    if value == DIGITS:
        return "9" * 5000
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(str(key))} = {_toml(one)}" for key, one in value.items() if one is not None)
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value if one is not None)}]"
    if value is None:
        return '""'
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    sys.set_int_max_str_digits(0)
    text = repr(value)
    sys.set_int_max_str_digits(4300)
    return text


@st.composite
def bytes_of(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds with bytes changed, cut out, doubled, or with another's within."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from((1, 1, 2, 8, 64, 1024)))
        deed = draw(st.sampled_from(("set", "cut", "end", "insert", "repeat", "hostile")))
        if deed == "set":
            content[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif deed == "cut":
            del content[at : at + length]
        elif deed == "end":
            del content[at:]
        elif deed == "insert":
            content[at:at] = draw(st.binary(max_size=16))
        elif deed == "repeat":
            content[at:at] = bytes(content[at : at + length]) * draw(st.sampled_from((2, 10, 300)))
        else:
            content[at:at] = HOSTILE_BYTES[draw(st.integers(0, len(HOSTILE_BYTES) - 1))]
    return bytes(content[:2_000_000])


HOSTILE_BYTES = (
    *(b"[" * 20_000, b"{" * 20_000, b'{"a":' * 5000, b"((" * 5000, b"-" * 200_000, b"\0" * 100, b"\xff\xfe", b"\x80"),
    *(b"9" * 5000, b"1e999", b"NaN", b"\r", b"\n\n\n", b"\xe2\x80\xa8", b"\x1b]0;owned\x07", b"a" * 70_000, b'"' * 999),
    *(b"a." * 2000 + b"a = 1\n", b"\n- " * 500, b"&a [*a, *a]", b"<<: *a", b"!!python/object:os.system x"),
    *(b"2020-13-45", b"$(($((" * 500, b"`" * 500, b"${a:-" * 2000, b"if " * 3000, b"<<EOF\n", b"~nosuchuser/"),
)
"""Bytes that parsers take badly."""


def of_toml(text: str) -> Any:
    """A seed's structure."""
    return tomllib.loads(text)
