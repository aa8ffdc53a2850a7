"""Findings about the texts: empty, more than can be spoken, `<unk>`; rows that contradict or repeat each other."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.folder.model_files import files_in_force
from harness.preflight.folder.tokens import read_tokens
from harness.preflight.inputs import Inputs
from harness.preflight.rows.gathered import Gathered
from harness.preflight.rows.measured import Arrivals, FrameStacking, TextTokens

QUICK = 30.0
"""Characters a second, more than anybody speaks: Mandarin has some 5, the letters of English some 15."""

SHOWN = 6
"""Characters of a kind that a finding shows."""


def check(rows: Gathered, inputs: Inputs, arrivals: Arrivals | None) -> Iterator[PreflightFinding]:
    """What is wrong with a set's texts."""
    empty = [number for number, row in enumerate(rows.file.rows) if row.source and not row.target.strip()]
    if empty:
        yield rows.finding(
            "text-empty",
            "an empty text: the row teaches that its speech is nothing, or one `<unk>`",
            empty,
            remedy="take the row out, or write its transcript",
        )
    tokens = arrivals.tokens if arrivals is not None and rows.data.role == "train" else None
    longer = _longer_than_frames(rows, inputs, tokens)
    if longer:
        yield _longer(rows, longer)
    yield from _quick(rows, set(longer))
    if tokens is not None and arrivals is not None:
        yield from _unknown(rows, inputs, tokens)
    yield from _contradictions(rows)
    yield from _repetitions(rows)


def _longer_than_frames(rows: Gathered, inputs: Inputs, tokens: TextTokens | None) -> dict[int, str]:
    """Rows with more tokens than the encoder has frames, with both numbers."""
    details = {}
    stacking = FrameStacking.of(inputs)
    counts = zip(tokens.rows, tokens.tokens, strict=True) if tokens is not None else ()
    for number, count in counts:
        header = rows.headers_by_row[number]
        frames = stacking.frames(header.seconds)
        if header.rate and header.fault is None and frames and count > frames:
            details[number] = f"{count} tokens on {frames} frames ({header.seconds:.2f} s)"
    return details


def _longer(rows: Gathered, longer: Mapping[int, str]) -> PreflightFinding:
    return rows.finding(
        "text-longer-than-frames",
        "more tokens than the encoder has frames: CTC has no alignment for them, and a predictor would emit several "
        "in one frame, so the row teaches errors",
        list(longer),
        details=longer,
        remedy="correct the text or the recording, or take the row out",
    )


def _quick(rows: Gathered, known: set[int]) -> Iterator[PreflightFinding]:
    details = {}
    for number, row in enumerate(rows.file.rows):
        header = rows.headers_by_row[number]
        if number in known or not header.rate or header.fault is not None:
            continue
        letters = len(row.target.replace(" ", ""))
        if letters > QUICK * header.seconds and letters > 3:
            details[number] = f"{letters} characters on {header.seconds:.2f} s"
    if details:
        yield rows.finding(
            "text-too-fast",
            f"more text than can be spoken in the time ({QUICK:g} characters a second): wrong text or recording",
            list(details),
            details=details,
            remedy="correct the text or the recording, or take the row out",
        )


def _unknown(rows: Gathered, inputs: Inputs, tokens: TextTokens) -> Iterator[PreflightFinding]:
    """Texts of which the tokenizer makes `<unk>`."""
    affected = [number for number, count in zip(tokens.rows, tokens.unknown, strict=True) if count]
    if not affected:
        return
    total, unknown = sum(tokens.tokens), sum(tokens.unknown)
    share = unknown / max(1, total)
    many = share >= 0.01 or len(affected) >= 0.05 * len(tokens.rows)
    sampled = f" (of {len(tokens.rows)} rows, evenly spaced)" if len(tokens.rows) < rows.count else ""
    kinds = _kinds(tokens.pieces)
    reason = "the token list has not what the texts are written in"
    remedy = _remedy(kinds, inputs)
    if seg_dict := _seg_dict_without(inputs, tokens):
        reason = f"the token list has these characters, and {seg_dict.name}, through which every word goes, has not"
        remedy = f"use the model's own seg_dict in place of {seg_dict}"
    yield rows.finding(
        "text-unknown-tokens",
        f"{share:.1%} of the tokens are `<unk>`: {reason}, and the model is trained to write `<unk>`",
        affected,
        severity=Severity.WRONG if many else Severity.MINOR,
        evidence=[*kinds[:4], *([f"{len(affected)} rows{sampled}"] if sampled else [])],
        details={number: rows.file.rows[number].target[:30] for number in affected[:8]},
        remedy=remedy,
    )


def _seg_dict_without(inputs: Inputs, tokens: TextTokens) -> Path | None:
    """The seg_dict in force, where it is why most of what became `<unk>` did, and not the token list."""
    files = files_in_force(inputs)
    seg_dict = files.path("tokenizer_conf.seg_dict") or files.path("tokenizer_conf.seg_dict_file")
    token_list = files.path("tokenizer_conf.token_list")
    if inputs.settings.get("tokenizer") != "CharTokenizer" or seg_dict is None or token_list is None:
        return None
    listed = set(read_tokens(token_list).tokens)
    known = sum(count for piece, count in tokens.pieces if piece in listed)
    return seg_dict if 2 * known > sum(count for _, count in tokens.pieces) else None


_REMEDIES = (
    ("punctuation", "take the punctuation out of the texts: the tokens of a model without punctuation have none"),
    ("capital", "write the texts in lower case"),
    ("full-width", "write full-width letters and digits in ASCII"),
    ("digits", "write numbers in words, as they are spoken"),
    ("white space", "write one ordinary space between words, and none at the ends"),
)


def _remedy(kinds: Sequence[str], inputs: Inputs) -> str:
    remedy = next((remedy for start, remedy in _REMEDIES if kinds and kinds[0].startswith(start)), "")
    if kinds and kinds[0].startswith("Latin") and inputs.settings.get("tokenizer") == "CharTokenizer":
        return "words need the folder's seg_dict (tokenizer_conf.seg_dict), which says what tokens they are made of"
    return remedy or "write the texts with the model's tokens.json, or take these rows out"


def _kinds(pieces: Sequence[tuple[str, int]]) -> list[str]:
    """What became `<unk>` by kind, the most frequent first: `punctuation: ，×40 。×21`."""
    by_kind: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for piece, count in pieces:
        by_kind[_kind(piece)].append((piece, count))
    ranked = sorted(by_kind.items(), key=lambda kind_and_pieces: -sum(count for _, count in kind_and_pieces[1]))
    return [
        f"{kind}: {' '.join(f'{piece}×{count}' for piece, count in pieces_of_kind[:SHOWN])}"
        + (f" and {len(pieces_of_kind) - SHOWN} more" if len(pieces_of_kind) > SHOWN else "")
        for kind, pieces_of_kind in ranked
    ]


def _kind(piece: str) -> str:
    if piece in ("white space", "nothing") or not piece.strip():
        return "white space"
    letter = piece[0]
    if "\uff01" <= letter <= "\uff5e" and letter.isalnum():
        return "full-width letters and digits"
    if unicodedata.category(letter)[0] in "PS":
        return "punctuation and marks"
    if letter.isascii() and letter.isdigit():
        return "digits"
    if letter.isascii() and letter.isupper():
        return "capital letters"
    if letter.isascii() and letter.isalpha():
        return "Latin letters and words"
    return "other characters"


def _contradictions(rows: Gathered) -> Iterator[PreflightFinding]:
    """One recording with several texts."""
    texts: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows.file.rows):
        if row.source:
            texts[row.source].append(number)
    contradicting = [
        numbers
        for numbers in texts.values()
        if len(numbers) > 1 and len({rows.file.rows[number].target for number in numbers}) > 1
    ]
    if contradicting:
        numbers = [number for group in contradicting for number in group]
        details = {number: rows.file.rows[number].target[:30] for group in contradicting[:2] for number in group[:2]}
        yield rows.finding(
            "recording-with-two-texts",
            "one recording with several texts: the rows contradict each other",
            numbers,
            details=details,
            remedy="keep the right one",
        )


def _repetitions(rows: Gathered) -> Iterator[PreflightFinding]:
    pairs, keys = Counter[tuple[str, str]](), Counter[str]()
    repeated, same_key = [], []
    for number, row in enumerate(rows.file.rows):
        pairs[row.source, row.target] += 1
        if row.source and pairs[row.source, row.target] > 1:
            repeated.append(number)
        elif row.key:
            keys[row.key] += 1
            if keys[row.key] > 1:
                same_key.append(number)
    if repeated:
        yield rows.finding(
            "row-repeated",
            "the same recording with the same text once more: it counts that often in each epoch",
            repeated,
            severity=Severity.MINOR,
            remedy="leave it, if it is meant",
        )
    if same_key:
        yield rows.finding(
            "key-repeated",
            "several rows with one `key`; FunASR's trainer reads no `key`, other tools keep the last row of each",
            same_key,
            severity=Severity.MINOR,
            remedy="give each row a key of its own",
        )


def overlap(train: Gathered, valid: Gathered) -> Iterator[PreflightFinding]:
    """Recordings that are in the training and in the validation set."""
    known = {row.source for row in train.file.rows if row.source}
    both = [number for number, row in enumerate(valid.file.rows) if row.source in known]
    if both:
        yield valid.finding(
            "valid-in-train",
            f"{len(both)} of {valid.count} validation rows are training rows too: the best checkpoint is chosen by "
            "what was learned by heart",
            both,
            severity=Severity.MINOR,
            remedy="keep rows for validation that are not trained on",
        )
