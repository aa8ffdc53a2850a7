"""`--jsonl`, `--valid` and `--rows`: the user's own speech, as `run` and `bundle` take it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from harness.core.errors import InputError
from harness.corpus.notices import notices_of
from harness.corpus.user_files import MOST_ROWS
from harness.corpus.user_speech import OwnSpeech, read_own
from harness.run.prepare import Speech


@dataclass(frozen=True, kw_only=True)
class SpeechLine:
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


def own_speech_lines(speech: Speech) -> list[SpeechLine]:
    """What is said of the user's files before anything runs: what is used, and then what is odd about it."""
    if speech.own is None:
        return []
    return [SpeechLine(text=speech.used), *(SpeechLine(text=notice, style="yellow") for notice in speech.notices)]


def carried_lines(own: OwnSpeech | None, rows: int | None) -> list[SpeechLine]:
    """What is said of the user's files when they are put into a bundle."""
    if own is None:
        return []
    name, listed = own.train.path.name, len(own.train.rows)
    carried = min(listed, MOST_ROWS if rows is None else rows)
    changed = f"{name}: `source` is rewritten to the recording's place in the bundle; every other byte is as it was"
    lines = [
        SpeechLine(text=changed),
        *(SpeechLine(text=one, style="yellow") for file in own.files for one in notices_of(file)),
    ]
    if carried < listed:
        part = f"{name}: {carried} of its {listed} rows are carried, evenly spaced; --rows {listed} carries all"
        lines.append(SpeechLine(text=part, style="yellow"))
    return lines
