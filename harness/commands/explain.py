"""`explain`: what does this log or traceback say, and what is to be done about it?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.commands.common import cache_of, print_json
from harness.commands.exit_status import FINE, FOUND
from harness.core.durable import json_text, write_file
from harness.core.errors import InputError
from harness.explain.explain import UnreadableLogError, explain_stream, explain_text
from harness.explain.explanation import LogReport
from harness.explain.own_texts import OwnTexts, read_own_texts
from harness.explain.terminal import record, render
from harness.explain.which_release import version_named
from harness.text.terminal import is_verbose, result_console

_STANDARD_INPUT = "-"
_LONGEST_NAME = 4096


def main(options: argparse.Namespace) -> int:
    """Print what was found; 1 where something is wrong whose cause is not known."""
    report = _report(options)
    if options.json == Path("-"):
        print_json(record(report))
    else:
        if options.json:
            write_file(options.json, json_text(record(report)))
        console = result_console()
        for line in render(report, verbose=is_verbose()):
            console.print(line)
    return FINE if report.fine or report.all_explained else FOUND


def _report(options: argparse.Namespace) -> LogReport:
    """Of the file, the standard input or the text that the options give.

    Raises:
        InputError: there is nothing to read, or it is no text.
    """
    named, cache, texts = _named(options.release), cache_of(options), _texts(options.train, options.tokens)
    log = " ".join(options.log)
    if len(options.log) > 1 or (log and log != _STANDARD_INPUT and not _is_file(log)):
        if len(options.log) == 1 and _looks_like_a_path(log):
            raise InputError(f"{log}: no such file", next_step="correct the path, or paste the text in quotes")
        return explain_text(log, named=named, cache=cache, texts=texts)
    if not log and sys.stdin.isatty():
        raise InputError(
            "no log was named, and nothing comes from the standard input",
            next_step="name a log: funasr-harness explain train.log, or paste the text in quotes",
        )
    try:
        if log in ("", _STANDARD_INPUT):
            return explain_stream(sys.stdin.buffer, source="standard input", named=named, cache=cache, texts=texts)
        with Path(log).open("rb") as stream:
            return explain_stream(stream, source=Path(log).name, named=named, cache=cache, texts=texts)
    except UnreadableLogError as error:
        name = log if log not in ("", _STANDARD_INPUT) else "the standard input"
        raise InputError(f"{name}: {error}", next_step="name the file of the training's output") from error
    except OSError as error:
        raise InputError(f"{log}: {error.strerror}", next_step="name a file that can be read") from error


def _texts(train: Path | None, tokens: Path | None) -> OwnTexts | None:
    """The texts of the training, where both files are given.

    Raises:
        InputError: one of them is not, or cannot be read.
    """
    if train is None and tokens is None:
        return None
    if train is None or tokens is None:
        missing = "--train" if train is None else "--tokens"
        raise InputError(
            f"{missing} is missing: the unigram baseline needs the texts and the token list",
            next_step="give both: --train train.jsonl --tokens MODEL",
        )
    return read_own_texts(train, tokens)


def _is_file(text: str) -> bool:
    try:
        return len(text) < _LONGEST_NAME and (Path(text).is_file() or Path(text).is_dir() or Path(text).is_fifo())
    except (OSError, ValueError):
        return False


def _looks_like_a_path(text: str) -> bool:
    return " " not in text and ":" not in text and ("/" in text or text.endswith((".log", ".txt", ".out", ".err")))


def _named(release: str | None) -> str | None:
    if release is None:
        return None
    try:
        return version_named(release)
    except ValueError as error:
        raise InputError(str(error), next_step="name the version that `pip show funasr` prints") from None
