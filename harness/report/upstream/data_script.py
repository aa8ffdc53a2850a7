"""Stand-alone scripts for what `data` finds, where a few lines of the release's own classes show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.upstream import parts

_IMPORTS = """
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import funasr
import torch
from funasr.register import tables

"""

_TEXT = """
TEXT = @TEXT@


def main():
    folder = Path(tempfile.mkdtemp())
    letters = sorted({letter for letter in TEXT.lower() if letter != " "} | set("今天气真好"))
    token_list, seg_dict = folder / "tokens.json", folder / "seg_dict"
    token_list.write_text(json.dumps(["<blank>", "<s>", "</s>", *letters, "<unk>"]), encoding="utf-8")
    seg_dict.write_text("".join(f"{letter} {letter}\\n" for letter in letters), encoding="utf-8")
    tokenizer = tables.tokenizer_classes["CharTokenizer"](
        token_list=str(token_list), seg_dict=str(seg_dict), unk_symbol="<unk>", split_with_space=True
    )
    tokens = tokenizer.ids2tokens(tokenizer.encode(TEXT))
    print(f"{TEXT!r} becomes {tokens}; all of its letters are in the token list")
    return "<unk>" in tokens
"""

_AISHELL = """

def main():
    folder, texts = Path(tempfile.mkdtemp()), {}
    for place in ("aishell", "other"):
        row = {"key": "a", "source": f"/{place}/a.wav", "source_len": 100, "target": "hello world", "target_len": 2}
        rows = folder / f"{place}.jsonl"
        rows.write_text(json.dumps(row) + "\\n", encoding="utf-8")
        texts[place] = tables.index_ds_classes["IndexDSJsonl"](str(rows))[0]["target"]
        print(f"source {row['source']}, target {row['target']!r}: the data set has {texts[place]!r}")
    return texts["aishell"] != texts["other"]
"""

_LONG = """

def main():
    folder = Path(tempfile.mkdtemp())
    rows = folder / "rows.jsonl"
    lengths = (100, 1500, 2100)
    lines = [
        {"key": str(length), "source": f"/{length}.wav", "source_len": length, "target": "a", "target_len": 1}
        for length in lengths
    ]
    rows.write_text("".join(json.dumps(line) + "\\n" for line in lines), encoding="utf-8")
    limits = @LIMITS@
    data_set = tables.index_ds_classes["IndexDSJsonl"](str(rows), **limits)
    there = [data_set[number]["source_len"] for number in range(len(data_set))]
    print(f"rows of {list(lengths)} frames of 10 ms, {limits}: the data set has {there}, and nothing was said")
    return 2100 not in there
"""

_ENDINGS: Mapping[str, str] = {
    "path_aishell": _AISHELL,
    "long": parts.fill(_LONG, {"LIMITS": '{"max_token_length": 2048}'}),
    "long_allowed": parts.fill(_LONG, {"LIMITS": '{"max_token_length": 8000}'}),
}

EXPECTED: Mapping[str, str] = {
    "path_aishell": "The text of a row should not depend on the name of the folder that its audio lies in.",
    "long": "A row that is left out should be reported.",
    "long_allowed": "With max_token_length raised, the row should arrive, or its being left out be reported.",
}


def script(question: Mapping[str, Any], *, title: str, release: str) -> str:
    """The text of a script for one question that failed; empty when none can be made."""
    name = str(question["name"])
    ending = _ENDINGS.get(name, "")
    text = question.get("example", {}).get("file")
    if name.startswith("text_") and "<unk>" in str(question["message"]) and isinstance(text, str):
        ending = parts.fill(_TEXT, {"TEXT": parts.literal(text)})
    if not ending:
        return ""
    head = parts.fill(parts.HEAD, {"TITLE": parts.docstring(title), "RELEASE": release})
    return head + _IMPORTS.rstrip("\n") + "\n" + ending + parts.FOOT


def expected(name: str) -> str:
    """What should happen, in a sentence."""
    return EXPECTED.get(name, "No token that the list has should become <unk>, and none should be invented.")
