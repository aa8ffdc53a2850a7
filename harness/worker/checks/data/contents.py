"""Questions about single utterances: text, frames, features, normalisation, padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness.worker.checks.data import vocabulary
from harness.worker.checks.data.answers import AnswerStatus, DataAnswer, fails, holds, listed, not_asked
from harness.worker.checks.data.arrivals import ReceivedRow, padding_problem
from harness.worker.checks.data.scene import DataCheckContext, Items, ReleaseRaised
from harness.worker.checks.data.speech import MadeUtterance, write_wave
from harness.worker.checks.data.vocabulary import ABSENT, ABSENT_SYMBOL, Reading
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
"""Texts by what is hard about them; each character is in the token list unless its name says otherwise."""
FEATURE_TOLERANCE = 0.02
"""Nine in ten of the normalised features may differ by so much: two implementations differ by rounding, those that are
not normalised, or of other speech, by about 1 and more."""


def ask(scene: DataCheckContext) -> Iterator[DataAnswer]:
    """All questions about single utterances."""
    try:
        items = scene.items(scene.plain)
        rows = [items.row(number) for number in range(len(items))]
    except ReleaseRaised as raised:
        yield fails("text_plain", f"reading plain utterances raises {raised}")
        return
    if len(rows) != len(scene.plain):
        yield fails("rows_read", f"the file has {len(scene.plain)} rows, the training set {len(rows)}")
        return
    yield _plain_text(scene, rows)
    yield _frames(scene, rows)
    yield from _features(scene, rows)
    yield _padding(items)
    yield from _texts(scene, "text", with_seg_dict=True)
    if scene.feeding.seg_dict:
        yield _bare_texts(list(_texts(scene, "bare_text", with_seg_dict=False)))
    else:
        yield not_asked("bare_text", "this release has no seg_dict: what it makes of texts is asked already")
    yield from _unusual_audio(scene)


def _plain_text(scene: DataCheckContext, rows: list[ReceivedRow]) -> DataAnswer:
    texts = {scene.reading.ids(one.text): one.key for one in scene.plain}
    for one, row in zip(scene.plain, rows, strict=True):
        if row.ids != scene.reading.ids(one.text):
            owner = texts.get(row.ids)
            message = f"{one.key} arrives with the text of {owner}" if owner else f"the text of {one.key} is changed"
            return _changed("text_plain", message, one.key, one.text, row)
    return holds("text_plain")


def _texts(scene: DataCheckContext, prefix: str, *, with_seg_dict: bool) -> Iterator[DataAnswer]:
    reading = scene.reading if with_seg_dict else Reading(seg_dict=False, spaces=scene.feeding.space_is_token)
    base = scene.plain[0]
    texts = {**TEXTS, **({} if with_seg_dict else {"plain": base.text}), "upper": "A股大涨", "empty": ""}
    utterances = [replace(base, key=f"{prefix}_{name}", text=text) for name, text in texts.items()]
    for one, (name, text) in zip(utterances, texts.items(), strict=True):
        question = f"{prefix}_{name}"
        if name == "dict_word" and with_seg_dict and not scene.feeding.seg_dict:
            yield not_asked(question, "the CharTokenizer of this release takes no seg_dict")
            continue
        try:
            row = _only(scene, one, with_seg_dict=with_seg_dict)
        except ReleaseRaised as raised:
            yield listed(question, f"{text!r} raises {raised}", utterance=one.key, file=text)
            continue
        yield _text_answer(question, one.key, text, reading, row)


def _bare_texts(answers: list[DataAnswer]) -> DataAnswer:
    """One answer for all texts: without a seg_dict every character stands for itself, or nothing works."""
    failed = [answer for answer in answers if answer.standing is AnswerStatus.FAILS]
    if not failed:
        return holds("bare_text")
    message = f"without a seg_dict {len(failed)} of {len(answers)} texts are changed; {failed[0].message}"
    return fails("bare_text", message, **failed[0].example)


def _text_answer(question: str, key: str, text: str, reading: Reading, row: ReceivedRow | None) -> DataAnswer:
    wanted = reading.ids(text)
    if row is None:
        return fails(question, f"the row with the text {text!r} is left out", utterance=key, file=text)
    if row.ids == wanted:
        if question.endswith("_upper") and reading.seg_dict:
            return listed(question, "with a seg_dict upper case arrives as lower case", **_example(key, text, row))
        return holds(question)
    if not row.ids:
        return _changed(question, f"nothing of {text!r} arrives", key, text, row)
    unknown = vocabulary.TOKENS.index(vocabulary.UNKNOWN)
    more = row.ids.count(unknown) - wanted.count(unknown)
    if len(row.ids) < len(wanted) and more > 0:
        why = "characters that the token list has are lost in <unk>"
    elif len(row.ids) > len(wanted) and more > 0:
        why = "<unk> is invented"
    else:
        why = f"the tokens should be {' '.join(reading.tokens(text)) or 'none'}"
    return _changed(question, f"{text!r}: {why}", key, text, row)


def _only(scene: DataCheckContext, one: MadeUtterance, *, with_seg_dict: bool = True) -> ReceivedRow | None:
    """The row of a file that has but this one; None when it is left out."""
    items = scene.items([one], with_seg_dict=with_seg_dict)
    return items.row(0) if len(items) else None


def _frames(scene: DataCheckContext, rows: list[ReceivedRow]) -> DataAnswer:
    expected = scene.expected(scene.plain)
    for one, row in zip(scene.plain, rows, strict=True):
        wanted, held = expected.frames(one), len(row.features)
        if row.frames != wanted or held != wanted:
            seconds = len(one.samples) / RATE
            message = (
                f"{one.key} of {seconds:.2f} s has {wanted} stacked frames; {held} arrive, said to be {row.frames}"
            )
            return fails("frames", message, utterance=one.key, file=f"{seconds:.2f} s", arrived=row.describe())
    return holds("frames")


def _features(scene: DataCheckContext, rows: list[ReceivedRow]) -> Iterator[DataAnswer]:
    """Whether the features are those of the speech, and whether they are normalised: told apart."""
    if not scene.knows_features:
        reason = "no reference for features of this frontend"
        yield not_asked("features", reason)
        yield not_asked("cmvn", reason)
        return
    for one, row in zip(scene.plain, rows, strict=True):
        plain = scene.reference.features(one.samples)
        normalised = scene.reference.normalised(plain)
        if row.features.shape != normalised.shape:
            yield not_asked("features", f"{one.key} arrives with {row.features.shape}, expected {normalised.shape}")
            yield not_asked("cmvn", "the features have another shape")
            return
        apart, apart_plain = _apart(row.features, normalised), _apart(row.features, plain)
        if apart <= FEATURE_TOLERANCE:
            continue
        if apart_plain <= FEATURE_TOLERANCE:
            yield holds("features", "once they are held against features that are not normalised")
            message = f"am.mvn, which the config names, is not applied: the mean is {row.features.mean():.2f}, not 0"
            yield fails("cmvn", message, utterance=one.key, arrived=f"{apart:.2f} away from the normalised features")
            return
        message = f"the features of {one.key} are {apart:.3g} away from those of its speech"
        yield fails("features", message, utterance=one.key, arrived=f"{apart_plain:.3g} away where not normalised")
        yield not_asked("cmvn", "the features are not those of the speech")
        return
    yield holds("features")
    yield holds("cmvn")


def _apart(one: Any, other: Any) -> float:
    import numpy

    return float(numpy.quantile(numpy.abs(one - other), 0.9))


def _padding(items: Items) -> DataAnswer:
    try:
        problem = padding_problem(items.batch(0, 5, 12, 3))
    except ReleaseRaised as raised:
        return fails("padding", f"a batch of four utterances raises {raised}")
    return fails("padding", problem) if problem else holds("padding")


def _unusual_audio(scene: DataCheckContext) -> Iterator[DataAnswer]:
    import numpy

    base = scene.plain[3]
    folder = scene.here / "wav"
    low = base.samples[: len(base.samples) // 2]
    write_wave(folder / "rate8000.wav", low, 8000)
    yield _audio(scene, "audio_8khz", replace(base, key="rate8000", source=str(folder / "rate8000.wav")), None)
    other = scene.plain[12].samples[: len(base.samples)]
    write_wave(folder / "stereo.wav", numpy.stack([base.samples, other], axis=1))
    mean = (base.samples.astype(numpy.float64) + other) / 2
    stereo = replace(base, key="stereo", source=str(folder / "stereo.wav"))
    yield _audio(scene, "audio_stereo", stereo, mean)
    for name, seconds in (("audio_one_frame", 0.03), ("audio_below_a_frame", 0.01), ("audio_empty", 0.0)):
        short = scene.utterance(name, base.text, seconds)
        yield _audio(scene, name, short, short.samples if seconds * 1000 > 25 else None)


def _audio(scene: DataCheckContext, question: str, one: MadeUtterance, samples: Any) -> DataAnswer:
    """Whether the file arrives with as many frames as it has, and, where `samples` are given, with their features."""
    wanted = scene.reference.frames(len(one.samples))
    said = f"{len(one.samples) / RATE:.3f} s"
    try:
        row = _only(scene, one)
    except ReleaseRaised as raised:
        return listed(question, f"it is refused with {raised}", utterance=one.key, file=said)
    if row is None:
        return fails(question, "the row is left out", utterance=one.key, file=said)
    if not wanted and len(one.samples) and row.frames == len(row.features) == 1:
        # WavFrontend shortens its window to audio that is shorter.
        message = "it is too short for a frame and arrives as one, of a shorter window"
        return listed(question, message, utterance=one.key, file=said, arrived=row.describe())
    if row.frames != wanted or len(row.features) != wanted:
        message = f"{wanted} frames of speech should arrive, {row.frames} do"
        return fails(question, message, utterance=one.key, file=said, arrived=row.describe())
    if not wanted:
        return listed(question, "it is too short for a frame and arrives with none", utterance=one.key, file=said)
    if samples is not None and scene.knows_features:
        plain = scene.reference.features(samples)
        if min(_apart(row.features, scene.reference.normalised(plain)), _apart(row.features, plain)) > 0.1:
            message = "the features are not those of the mean of its channels" if question == "audio_stereo" else (
                "the features are not those of its speech"
            )  # fmt: skip
            return fails(question, message, utterance=one.key, file=said, arrived=row.describe())
    return holds(question)


def _changed(question: str, message: str, key: str, text: str, row: ReceivedRow) -> DataAnswer:
    return fails(question, message, **_example(key, text, row))


def _example(key: str, text: str, row: ReceivedRow) -> dict[str, str]:
    return {"utterance": key, "file": text, "arrived": vocabulary.names(row.ids) or "no token"}
