"""Data tests of single utterances: text, frames, features, normalisation, padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness.core.evidence.questions import AnswerStatus, Question
from harness.worker.checks.data import inputs
from harness.worker.checks.data.answers import ReceivedRow, fails, holds, listed, not_tested, padding_problem
from harness.worker.checks.data.context import DataCheckContext, Items, ReleaseRaised
from harness.worker.checks.data.inputs import ABSENT, ABSENT_SYMBOL, CharTokenization, MadeUtterance, write_wave
from harness.worker.trainer.reference_features import RATE

TEXTS = {
    "spaces": "今天 天气 真好",
    "edge_spaces": " 今天天气 ",
    "double_space": "今天  天气",
    "digits": "房间3号",
    "latin_word": "他 说 python",
    "latin_inside": "我爱python",
    "dict_word": "他 说 hello",
    "mark_inside": "天气，真好",
    "mark_first": "《天气》真好",
    "unknown": f"今天{ABSENT}天气",
    "unknown_symbol": f"今天{ABSENT_SYMBOL}天气",
}
"""Texts by their difficulty; each character is in the token list unless the name says otherwise."""
FEATURE_TOLERANCE = 0.02
"""Bound for nine in ten normalised features. Two implementations differ by rounding; features that are not normalised,
or of other speech, differ by about 1 or more."""


def check_contents(context: DataCheckContext) -> Iterator[Question]:
    """Test single utterances."""
    try:
        items = context.items(context.plain)
        rows = [items.row(number) for number in range(len(items))]
    except ReleaseRaised as raised:
        yield fails("text_plain", f"reading plain utterances raises {raised}")
        return
    if len(rows) != len(context.plain):
        yield fails("rows_read", f"the file has {len(context.plain)} rows, the training set {len(rows)}")
        return
    yield _plain_text(context, rows)
    yield _frames(context, rows)
    yield from _features(context, rows)
    yield _padding(items)
    yield from _texts(context, "text", with_seg_dict=True)
    if context.dataset_options.seg_dict:
        yield _bare_texts(list(_texts(context, "bare_text", with_seg_dict=False)))
    else:
        yield not_tested("bare_text", "this release has no seg_dict: its texts are tested already")
    yield from _unusual_audio(context)


def _plain_text(context: DataCheckContext, rows: list[ReceivedRow]) -> Question:
    texts = {context.reading.ids(utterance.text): utterance.key for utterance in context.plain}
    for utterance, row in zip(context.plain, rows, strict=True):
        if row.ids != context.reading.ids(utterance.text):
            owner = texts.get(row.ids)
            message = (
                f"{utterance.key} arrives with the text of {owner}"
                if owner
                else f"the text of {utterance.key} is changed"
            )
            return _changed("text_plain", message, utterance.key, utterance.text, row)
    return holds("text_plain")


def _texts(context: DataCheckContext, prefix: str, *, with_seg_dict: bool) -> Iterator[Question]:
    reading = (
        context.reading
        if with_seg_dict
        else CharTokenization(seg_dict=False, spaces=context.dataset_options.space_is_token)
    )
    base = context.plain[0]
    texts = {**TEXTS, **({} if with_seg_dict else {"plain": base.text}), "upper": "A股大涨", "empty": ""}
    utterances = [replace(base, key=f"{prefix}_{name}", text=text) for name, text in texts.items()]
    for utterance, (name, text) in zip(utterances, texts.items(), strict=True):
        question = f"{prefix}_{name}"
        if name == "dict_word" and with_seg_dict and not context.dataset_options.seg_dict:
            yield not_tested(question, "the CharTokenizer of this release has no seg_dict")
            continue
        try:
            row = _single_row(context, utterance, with_seg_dict=with_seg_dict)
        except ReleaseRaised as raised:
            yield listed(question, f"{text!r} raises {raised}", utterance=utterance.key, file=text)
            continue
        yield _text_answer(question, utterance.key, text, reading, row)


def _bare_texts(answers: list[Question]) -> Question:
    """One answer for all texts without a seg_dict: each character is its own token, or all of them fail."""
    failed = [answer for answer in answers if answer.status is AnswerStatus.FAILS]
    if not failed:
        return holds("bare_text")
    message = f"without a seg_dict {len(failed)} of {len(answers)} texts are changed; {failed[0].message}"
    return fails("bare_text", message, **(failed[0].example or {}))


def _text_answer(question: str, key: str, text: str, reading: CharTokenization, row: ReceivedRow | None) -> Question:
    expected_ids = reading.ids(text)
    if row is None:
        return fails(question, f"the row with the text {text!r} is left out", utterance=key, file=text)
    if row.ids == expected_ids:
        if question.endswith("_upper") and reading.seg_dict:
            return listed(question, "with a seg_dict upper case arrives as lower case", **_example(key, text, row))
        return holds(question)
    if not row.ids:
        return _changed(question, f"nothing of {text!r} arrives", key, text, row)
    unknown = inputs.TOKENS.index(inputs.UNKNOWN)
    more = row.ids.count(unknown) - expected_ids.count(unknown)
    if len(row.ids) < len(expected_ids) and more > 0:
        why = "characters of the token list become <unk>"
    elif len(row.ids) > len(expected_ids) and more > 0:
        why = "<unk> is invented"
    else:
        why = f"the tokens should be {' '.join(reading.tokens(text)) or 'none'}"
    return _changed(question, f"{text!r}: {why}", key, text, row)


def _single_row(
    context: DataCheckContext, utterance: MadeUtterance, *, with_seg_dict: bool = True
) -> ReceivedRow | None:
    """The row of a file with this utterance alone; None if the release leaves it out."""
    items = context.items([utterance], with_seg_dict=with_seg_dict)
    return items.row(0) if len(items) else None


def _frames(context: DataCheckContext, rows: list[ReceivedRow]) -> Question:
    expected = context.expected(context.plain)
    for utterance, row in zip(context.plain, rows, strict=True):
        expected_frames, arrived_frames = expected.frames(utterance), len(row.features)
        if row.frames != expected_frames or arrived_frames != expected_frames:
            seconds = len(utterance.samples) / RATE
            message = (
                f"{utterance.key} of {seconds:.2f} s has {expected_frames} stacked frames; "
                f"{arrived_frames} arrive, stated as {row.frames}"
            )
            return fails("frames", message, utterance=utterance.key, file=f"{seconds:.2f} s", arrived=row.describe())
    return holds("frames")


def _features(context: DataCheckContext, rows: list[ReceivedRow]) -> Iterator[Question]:
    """Whether the features belong to the speech, and separately whether they are normalised."""
    if not context.knows_features:
        reason = "no reference for features of this frontend"
        yield not_tested("features", reason)
        yield not_tested("cmvn", reason)
        return
    for utterance, row in zip(context.plain, rows, strict=True):
        plain = context.reference.features(utterance.samples)
        normalised = context.reference.normalised(plain)
        if row.features.shape != normalised.shape:
            yield not_tested(
                "features", f"{utterance.key} arrives with {row.features.shape}, expected {normalised.shape}"
            )
            yield not_tested("cmvn", "the features have a different shape")
            return
        distance, apart_plain = _distance(row.features, normalised), _distance(row.features, plain)
        if distance <= FEATURE_TOLERANCE:
            continue
        if apart_plain <= FEATURE_TOLERANCE:
            yield holds("features", "compared with features that are not normalised")
            message = f"am.mvn, which the config names, is not applied: the mean is {row.features.mean():.2f}, not 0"
            yield fails(
                "cmvn", message, utterance=utterance.key, arrived=f"{distance:.2f} away from the normalised features"
            )
            return
        message = f"the features of {utterance.key} are {distance:.3g} away from those of its speech"
        yield fails(
            "features",
            message,
            utterance=utterance.key,
            arrived=f"{apart_plain:.3g} away from features that are not normalised",
        )
        yield not_tested("cmvn", "the features are not those of the speech")
        return
    yield holds("features")
    yield holds("cmvn")


def _distance(first: Any, second: Any) -> float:
    import numpy

    return float(numpy.quantile(numpy.abs(first - second), 0.9))


def _padding(items: Items) -> Question:
    try:
        problem = padding_problem(items.batch(0, 5, 12, 3))
    except ReleaseRaised as raised:
        return fails("padding", f"a batch of four utterances raises {raised}")
    return fails("padding", problem) if problem else holds("padding")


def _unusual_audio(context: DataCheckContext) -> Iterator[Question]:
    import numpy

    base = context.plain[3]
    folder = context.here / "wav"
    low = base.samples[: len(base.samples) // 2]
    write_wave(folder / "rate8000.wav", low, 8000)
    yield _audio(context, "audio_8khz", replace(base, key="rate8000", source=str(folder / "rate8000.wav")), None)
    other = context.plain[12].samples[: len(base.samples)]
    write_wave(folder / "stereo.wav", numpy.stack([base.samples, other], axis=1))
    mean = (base.samples.astype(numpy.float64) + other) / 2
    stereo = replace(base, key="stereo", source=str(folder / "stereo.wav"))
    yield _audio(context, "audio_stereo", stereo, mean)
    for name, seconds in (("audio_one_frame", 0.03), ("audio_below_a_frame", 0.01), ("audio_empty", 0.0)):
        short = context.utterance(name, base.text, seconds)
        yield _audio(context, name, short, short.samples if seconds * 1000 > 25 else None)


def _audio(context: DataCheckContext, question: str, utterance: MadeUtterance, samples: Any) -> Question:
    """Whether the file arrives with its number of frames and, if `samples` are given, with their features."""
    expected_frames = context.reference.frames(len(utterance.samples))
    seconds_in_file = f"{len(utterance.samples) / RATE:.3f} s"
    try:
        row = _single_row(context, utterance)
    except ReleaseRaised as raised:
        return listed(question, f"it raises {raised}", utterance=utterance.key, file=seconds_in_file)
    if row is None:
        return fails(question, "the row is left out", utterance=utterance.key, file=seconds_in_file)
    if not expected_frames and len(utterance.samples) and row.frames == len(row.features) == 1:
        # WavFrontend shortens its window for audio that is shorter than it.
        message = "it is too short for a frame and arrives as one frame of a shorter window"
        return listed(question, message, utterance=utterance.key, file=seconds_in_file, arrived=row.describe())
    if row.frames != expected_frames or len(row.features) != expected_frames:
        message = f"{expected_frames} frames of speech should arrive, {row.frames} do"
        return fails(question, message, utterance=utterance.key, file=seconds_in_file, arrived=row.describe())
    if not expected_frames:
        return listed(
            question, "it is too short for a frame and arrives with none", utterance=utterance.key, file=seconds_in_file
        )
    if samples is not None and context.knows_features:
        plain = context.reference.features(samples)
        if min(_distance(row.features, context.reference.normalised(plain)), _distance(row.features, plain)) > 0.1:
            message = "the features are not those of the mean of its channels" if question == "audio_stereo" else (
                "the features are not those of its speech"
            )  # fmt: skip
            return fails(question, message, utterance=utterance.key, file=seconds_in_file, arrived=row.describe())
    return holds(question)


def _changed(question: str, message: str, key: str, text: str, row: ReceivedRow) -> Question:
    return fails(question, message, **_example(key, text, row))


def _example(key: str, text: str, row: ReceivedRow) -> dict[str, str]:
    return {"utterance": key, "file": text, "arrived": inputs.token_text(row.ids) or "no token"}
