"""A model folder with a token list and a seg_dict of our own, and what a text should become by them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

CHARACTERS = "今天气真好我们一起去公园走他说很爱看书听房间号大涨股三上下了的是在有人这个来到时地出就要"
MARKS = "，。《》"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = ("hel@@", "lo")
"""What the seg_dict makes of the word `WORD`: published ones hold pairs of bytes like these for Latin words."""
WORD = "hello"
ABSENT = "龘"
"""A Chinese character that the list lacks."""
ABSENT_SYMBOL = "☃"
UNKNOWN = "<unk>"
SPACE = "<space>"
TOKENS = (
    "<blank>", "<s>", "</s>", *CHARACTERS, *MARKS, *"0123456789", *LETTERS, *LETTERS.upper(), *PIECES, SPACE, UNKNOWN,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a release's CharTokenizer, as it is documented, reads a text: character by character."""

    seg_dict: bool
    """Whether words of the seg_dict become the tokens that it says; upper case is then read as lower case."""
    spaces: bool
    """Whether a space is a token, up to 1.0.5; otherwise it only ends a word."""

    def tokens(self, text: str) -> list[str]:
        """The tokens that should arrive; what the list lacks is `<unk>`, one for each character."""
        if not self.seg_dict:
            named = [SPACE if letter == " " else letter for letter in text if self.spaces or letter != " "]
            return [letter if letter in TOKENS else UNKNOWN for letter in named]
        found: list[str] = []
        for word in text.lower().split():
            found.extend(PIECES if word == WORD else (letter if letter in TOKENS else UNKNOWN for letter in word))
        return found

    def ids(self, text: str) -> tuple[int, ...]:
        """The tokens' ids."""
        return tuple(TOKENS.index(token) for token in self.tokens(text))


def names(ids: tuple[int, ...]) -> str:
    """Ids as a person reads them."""
    return " ".join(TOKENS[number] if 0 <= number < len(TOKENS) else str(number) for number in ids)


def plain_text(number: int) -> str:
    """One of many distinct texts of 3 to 7 Chinese characters."""
    length = 3 + number % 5
    return "".join(CHARACTERS[(7 * number + 3 * place * (number % 3 + 1)) % len(CHARACTERS)] for place in range(length))


def lay_out(published: Path, here: Path) -> Path:
    """A copy of a model folder with this vocabulary and without dither, so that features can be compared."""
    import yaml

    shutil.copytree(published, here)
    config = yaml.safe_load((here / "config.yaml").read_text(encoding="utf-8"))
    config["frontend_conf"] = {**config.get("frontend_conf", {}), "dither": 0.0}
    (here / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    (here / "tokens.json").write_text(json.dumps(TOKENS, ensure_ascii=False), encoding="utf-8")
    lines = [f"{token} {token}" for token in TOKENS if len(token) == 1]
    text = "\n".join([*lines, " ".join((WORD, *PIECES))]) + "\n"
    (here / "seg_dict").write_text(text, encoding="utf-8")
    return here
