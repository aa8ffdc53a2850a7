"""Data tests of rows with missing or additional fields, and of unusual paths."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.evidence.questions import Question
from harness.worker.checks.data import inputs
from harness.worker.checks.data.answers import fails, holds, listed, not_tested
from harness.worker.checks.data.context import DataCheckContext, ReleaseRaised
from harness.worker.checks.data.inputs import MadeUtterance, write_wave
from harness.worker.release import findings

LEFT_OUT: dict[str, dict[str, Any]] = {
    "row_without_key": {"key": None},
    "row_without_prompt": {"prompt": None},
    "row_without_source_len": {"source_len": None},
    "row_without_target_len": {"target_len": None},
    "row_with_more_fields": {"speaker": "one", "wav_id": 7},
    "row_with_text_field": {"text": "今天"},
    "row_without_target": {"target": None},
    "row_without_source": {"source": None},
}


REQUIRED = ("row_without_prompt", "row_without_source_len", "row_without_target_len")
"""Fields that some releases do without; the harness's own rows always have them."""
STOPS = "it stops the training with"


def check_rows(context: DataCheckContext) -> Iterator[Question]:
    """Test rows and paths."""
    before, after = context.plain[0], context.plain[5]
    answers = {}
    for name, fields in LEFT_OUT.items():
        odd = replace(context.plain[2], key=name, fields=fields)
        answers[name] = _among(name, context, [before, odd, after], odd, ordinary=False)
    yield from answers.values()
    _note_required([answers[name] for name in REQUIRED])
    yield _blank_line(context, [before, after])
    for name, place in _places(context.here).items():
        # Releases rewrite this path for their authors' machines; the training then stops, so it is only listed.
        odd = _moved(context.plain[2], name, place)
        yield _among(name, context, [before, odd, after], odd, ordinary=name != "path_cpfs01")
    yield _path_with_aishell(context)
    yield _missing(context, before, after)


def _note_required(answers: list[Question]) -> None:
    """Note a finding for fields without which the training stops: the harness's own rows hide that."""
    stopping = [answer for answer in answers if answer.message.startswith(STOPS)]
    if stopping:
        fields = [answer.name.removeprefix("row_without_") for answer in stopping]
        error = stopping[0].message.removeprefix(STOPS).strip()
        findings.note(
            "row-field-required",
            f"A row without {' or '.join(fields)} stops the training: {error}.",
            "funasr/datasets/audio_datasets/index_ds.py",
            fields=fields,
        )


def _places(work_folder: Path) -> dict[str, str]:
    return {
        "path_with_space": str(work_folder / "wav" / "with a space" / "one two.wav"),
        "path_unicode": str(work_folder / "wav" / "语音 é" / "天气.wav"),
        "path_relative": os.path.relpath(work_folder / "wav" / "relative.wav"),
        "path_cpfs01": str(work_folder / "cpfs01" / "one.wav"),
    }


def _moved(utterance: MadeUtterance, key: str, place: str) -> MadeUtterance:
    write_wave(Path(place), utterance.samples)
    return replace(utterance, key=key, source=place)


def _among(
    name: str, context: DataCheckContext, utterances: list[MadeUtterance], odd: MadeUtterance, *, ordinary: bool
) -> Question:
    """Whether all of these rows arrive unchanged, the unusual one and its neighbours."""
    row_in_file = json.dumps(odd.row(), ensure_ascii=False).replace(str(context.here), "…")
    try:
        items = context.items(utterances)
        rows = [items.row(number) for number in range(len(items))]
    except ReleaseRaised as raised:
        message = f"{STOPS} {raised}".replace(str(context.here), "…")
        return (fails if ordinary else listed)(name, message, utterance=odd.key, file=row_in_file)
    expected = context.expected(utterances)
    for row in rows:
        _, problem = expected.owner(row)
        if problem:
            return fails(name, problem, utterance=odd.key, file=row_in_file, arrived=row.describe())
    if len(rows) != len(utterances):
        if "source" in name or "target" in name:
            return listed(name, "the row is passed over", utterance=odd.key, file=row_in_file)
        return fails(name, f"of {len(utterances)} rows {len(rows)} arrive", utterance=odd.key, file=row_in_file)
    return holds(name)


def _blank_line(context: DataCheckContext, utterances: list[MadeUtterance]) -> Question:
    name, path = "row_blank_line", context.rows(utterances)
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("\n")
    try:
        items = context.items(path)
    except ReleaseRaised as raised:
        return listed(name, f"an empty line at the end stops the training with {raised}")
    if len(items) != len(utterances):
        return fails(name, f"of {len(utterances)} rows and an empty line {len(items)} rows arrive")
    return holds(name)


def _path_with_aishell(context: DataCheckContext) -> Question:
    """One row under two paths: since 1.0.15 a path with the corpus' name joins the words of the text."""
    name = "path_aishell"
    text = "他 说 hello" if context.dataset_options.seg_dict else "他 说"
    plain = replace(_moved(context.plain[2], "elsewhere", str(context.here / "wav" / "mine" / "one.wav")), text=text)
    odd = replace(_moved(plain, name, str(context.here / "wav" / "aishell" / "one.wav")), text=text)
    if plain.row()["source_len"] != odd.row()["source_len"]:
        return not_tested(name, "the two rows differ in more than the path")
    try:
        items = context.items([plain, odd])
        first, second = items.row(0), items.row(1)
    except ReleaseRaised as raised:
        return fails(name, f"it raises {raised}")
    if first.ids != second.ids:
        message = "if the path contains `aishell`, the spaces of the text are removed, which joins its words"
        arrived = f"{inputs.token_text(second.ids)}; under another path {inputs.token_text(first.ids)}"
        return fails(name, message, utterance=odd.key, file=text, arrived=arrived)
    return holds(name)


def _missing(context: DataCheckContext, before: MadeUtterance, after: MadeUtterance) -> Question:
    """A file that does not exist must stop the training, or be reported."""
    name, missing_file = "path_missing", str(context.here / "wav" / "gone.wav")
    odd = replace(context.plain[2], key=name, source=missing_file)
    row_in_file = "wav/gone.wav, which does not exist"
    try:
        items = context.items([before, odd, after])
        rows = [items.row(number) for number in range(len(items))]
    except ReleaseRaised as raised:
        if "gone.wav" in str(raised.failure.get("message", "")):
            return holds(name, f"it stops the training with {raised.failure['type']}, which names the file")
        return listed(
            name, f"it stops the training, but {raised} does not name the file", utterance=name, file=row_in_file
        )
    if items.logs.mentions(("gone.wav",)):
        return listed(name, "the release reports it and continues", utterance=name, file=row_in_file)
    arrived = rows[1].describe() if len(rows) > 1 else "nothing"
    return fails(
        name, f"{len(rows)} of 3 rows arrive, without a message", utterance=name, file=row_in_file, arrived=arrived
    )
