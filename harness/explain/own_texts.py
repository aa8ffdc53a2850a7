"""The unigram baseline of a user's own texts, which a log does not have: rows and token list are given with it.

Texts become tokens as `CharTokenizer` makes them since 1.0.18 (funasr/tokenizer/char_tokenizer.py): with a `seg_dict`
next to the token list each word is looked up, else each of its characters; without one each character but the space is
a token. Earlier releases differ in words of Latin letters and in spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import InputError
from harness.preflight.folder.file_kinds import text_of
from harness.preflight.folder.tokens import read_tokens
from harness.preflight.rows.reading import read_rows
from harness.preflight.settings import SettingsInForce, read_config
from harness.worker.watch.unigram import UnigramBaseline

TOKENIZER = "CharTokenizer"
UNKNOWN = "<unk>"
_END = 1 << 40
"""Counted as a token of its own: which id the end of a sentence has makes no difference."""
_LOOKED_UP = re.compile(r"[\u4E00-\u9FA5A-Za-z0-9]")
_SMOOTHING = 0.1
"""`model_conf.lsm_weight` of the published configs, which normalise the loss by the tokens, too."""


@dataclass(frozen=True, kw_only=True)
class OwnTexts:
    """What the texts of a training are to a prediction that does not look at the speech."""

    baseline: float
    """In the unit of the printed loss: the lower one of the baselines with the end of each sentence and without."""
    entropy: float
    """Of the tokens with the ends of the sentences, in nats a token."""
    rows: int
    tokens: int
    unknown: int
    """Tokens that became `<unk>`."""
    assumed: str = ""
    """What of the criterion was not known."""

    @property
    def unknown_share(self) -> float:
        """Of all tokens."""
        return self.unknown / self.tokens


def read_own_texts(train: Path, tokens: Path) -> OwnTexts:
    """The baseline of the texts in a jsonl file.

    Args:
        train: The rows that were trained on.
        tokens: The token list or the model folder that has it; config.yaml and seg_dict are read from the same folder.

    Raises:
        InputError: a file cannot be read, has no text, or another tokenizer makes the tokens.
    """
    settings, assumed = _settings(tokens if tokens.is_dir() else tokens.parent)
    path = _token_list(tokens)
    listed = read_tokens(path)
    if listed.problem is not None:
        raise InputError(f"{path}: {listed.problem[1]}", next_step=listed.problem[2])
    if len(listed.tokens) < 2:
        raise InputError(f"{path}: no list of tokens", next_step="name the model's tokens.json, or its folder")
    smoothing, by_token = _criterion(settings, path.parent / "config.yaml", assumed=bool(assumed))
    alone, with_ends, plain = UnigramBaseline(), UnigramBaseline(), UnigramBaseline()
    for baseline in (alone, with_ends):
        baseline.configure(len(listed.tokens), smoothing)
    rows = unknown = 0
    for ids, missing in _token_rows(train, listed.tokens, _seg_dict(path.parent / "seg_dict")):
        rows, unknown = rows + 1, unknown + missing
        alone.add(ids)
        for baseline in (with_ends, plain):
            baseline.add([*ids, _END])
    lowest = min((loss for loss in (alone.loss(), with_ends.loss()) if loss is not None), default=None)
    if lowest is None or not alone.tokens:
        raise InputError(f"{train}: no row with a text", next_step="name the jsonl file that was trained on")
    return OwnTexts(
        baseline=lowest if by_token else lowest * alone.tokens / rows,
        entropy=plain.loss() or 0.0,
        rows=rows,
        tokens=alone.tokens,
        unknown=unknown,
        assumed=assumed,
    )


def _criterion(settings: SettingsInForce, config: Path, *, assumed: bool) -> tuple[float, bool]:
    """The smoothing of the loss, and whether it is a mean over tokens; a config without them has FunASR's defaults."""
    smoothing = settings.get("model_conf.lsm_weight", _SMOOTHING if assumed else 0.0)
    if isinstance(smoothing, bool) or not isinstance(smoothing, int | float) or not 0.0 <= smoothing < 1.0:
        raise InputError(f"{config}: model_conf.lsm_weight is no share: {str(smoothing)[:60]}")
    return float(smoothing), bool(settings.get("model_conf.length_normalized_loss", assumed))


def _token_list(named: Path) -> Path:
    if named.is_file():
        return named
    if not named.is_dir():
        raise InputError(f"{named}: no such file or folder", next_step="name the model's folder or its token list")
    token_list = next((path for path in (named / "tokens.json", named / "tokens.txt") if path.is_file()), None)
    if token_list is None:
        raise InputError(f"{named}: neither tokens.json nor tokens.txt in this folder", next_step="name the token list")
    return token_list


def _settings(folder: Path) -> tuple[SettingsInForce, str]:
    """The config next to the token list, and what is assumed where there is none."""
    config = folder / "config.yaml"
    if not config.is_file():
        return SettingsInForce(), (
            f"no config.yaml next to the token list: a loss per token with a smoothing of {_SMOOTHING} is assumed"
        )
    settings = read_config(config)
    tokenizer = settings.get("tokenizer", TOKENIZER)
    if tokenizer != TOKENIZER:
        raise InputError(
            f"{config}: the tokens are made by {str(tokenizer)[:60]}, which only the release itself can run",
            next_step="watch the training: funasr-harness watch computes the baseline while it runs",
        )
    return settings, ""


def _token_rows(train: Path, tokens: Sequence[str], words: Mapping[str, str] | None) -> Iterator[tuple[list[int], int]]:
    """The ids of each row that has a text, and how many of them are that of `<unk>`."""
    try:
        rows = read_rows((train,)).rows
    except OSError as error:
        raise InputError(f"{train}: {error.strerror or error}", next_step="name the jsonl file of the rows") from error
    ids = {token: number for number, token in enumerate(tokens)}
    unknown = ids.get(UNKNOWN, len(tokens))
    for row in rows:
        if token_ids := [ids.get(token, unknown) for token in tokens_of(row.target, words)]:
            yield token_ids, token_ids.count(unknown)


def tokens_of(text: str, words: Mapping[str, str] | None) -> list[str]:
    """The tokens of a text, those without an id included.

    Args:
        text: Of one row.
        words: What each word is made of, by the seg_dict; None where there is none.
    """
    if words is None:
        return [letter for letter in text if letter != " "]
    tokens: list[str] = []
    for word in text.strip().lower().split(" "):
        if word in words:
            tokens += words[word].split()
        elif _LOOKED_UP.match(word):
            tokens += [piece for letter in word for piece in words.get(letter, UNKNOWN).split()]
        else:
            tokens.append(UNKNOWN)
    return tokens


def _seg_dict(path: Path) -> Mapping[str, str] | None:
    if not path.is_file():
        return None
    try:
        lines = text_of(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}", next_step="use the seg_dict of the model's folder") from error
    return {parts[0]: " ".join(parts[1:]) for parts in map(str.split, lines) if parts}
