"""`--jsonl`, `--valid` and `--rows`: the user's own speech, as `run` and `bundle` take it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from harness.errors import InputError
from harness.prepare import Speech
from harness.speech.notices import notices_of
from harness.speech.own import OwnSpeech, read_own
from harness.speech.own_files import MOST_ROWS


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line for the terminal."""

    text: str
    style: str = ""


def read_own_speech(options: argparse.Namespace) -> OwnSpeech | None:
    """The user's files; None where the harness's corpus is to be used.

    Raises:
        CorpusError: a file that FunASR could not train on.
        InputError: options without the file that they are about.
    """
    if options.jsonl is None:
        for name in ("valid", "rows"):
            if getattr(options, name, None) is not None:
                raise InputError(
                    f"--{name} says something about a file of your own, and there is none",
                    next_step="name the training rows with --jsonl",
                )
        return None
    return read_own(options.jsonl, valid=getattr(options, "valid", None), root=getattr(options, "root", None))


def own_speech_lines(speech: Speech) -> list[Line]:
    """What is said of the user's files before anything runs: what is used, and then what is odd about it."""
    if speech.own is None:
        return []
    return [Line(text=speech.used), *(Line(text=notice, style="yellow") for notice in speech.notices)]


def carried_lines(own: OwnSpeech | None, rows: int | None) -> list[Line]:
    """What is said of the user's files when they are put into a bundle."""
    if own is None:
        return []
    name, listed = own.train.path.name, len(own.train.rows)
    carried = min(listed, MOST_ROWS if rows is None else rows)
    changed = f"{name}: `source` is rewritten to the recording's place in the bundle; every other byte is as it was"
    lines = [Line(text=changed), *(Line(text=one, style="yellow") for file in own.files for one in notices_of(file))]
    if carried < listed:
        part = f"{name}: {carried} of its {listed} rows are carried, evenly spaced; --rows {listed} carries all"
        lines.append(Line(text=part, style="yellow"))
    return lines
