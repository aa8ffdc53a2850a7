"""The token list: exactly as many tokens as requested, with those of the corpus."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain, count, islice

from harness.core.errors import CorpusError, VariantError

LEADING = ("<blank>", "<s>", "</s>")
"""The ids 0, 1, 2: what the models' configurations take as blank, begin and end unless configured otherwise."""

UNKNOWN = "<unk>"
"""The last token, as in the token lists that are published with Paraformer models."""

SPACE = "<space>"
"""What releases up to 1.0.5 read a space as; later ones only split words at it."""

SPECIAL = (*LEADING, UNKNOWN)

# Blocks of distinct characters that no tokenizer changes, most usual first.
_FILLER_BLOCKS = (
    range(0x4E00, 0xA000),  # CJK unified ideographs
    range(0x3400, 0x4DC0),  # their extension A
    range(0x20000, 0x2A6E0),  # extension B
    range(0xAC00, 0xD7A4),  # Hangul syllables
)

# The words that the seg_dict branch of every release's CharTokenizer takes apart into characters by itself;
# any other word it turns into one <unk> in some release, unless the seg_dict says what the word is made of.
_PLAIN_WORD = re.compile(r"[\u4E00-\u9FA50-9]+")


def tokens_of(text: str) -> frozenset[str]:
    """Every token that FunASR's CharTokenizer, of any release, makes of a text when the list has them all.

    A token is a character. Releases up to 1.0.5 keep its case and make `<space>` of a space;
    later ones lower it when there is a seg_dict, and drop spaces. No token list holds other white space or control
    characters: those become `<unk>`.
    """
    letters = frozenset(chain(text, text.lower()))
    return frozenset(SPACE if letter == " " else letter for letter in letters if not unspeakable(letter))


def unspeakable(letter: str) -> bool:
    """Whether it is white space other than the ordinary space, or a control character."""
    return letter != " " and (letter.isspace() or unicodedata.category(letter) == "Cc")


def make_token_list(texts: Iterable[str], vocab_size: int) -> tuple[str, ...]:
    """Exactly `vocab_size` distinct tokens: the special ones, the texts', and fillers between them and `<unk>`.

    Raises:
        VariantError: the special tokens alone are too many.
        CorpusError: the texts have more distinct characters than there is room for.
    """
    check_vocab_size(vocab_size)
    spoken = sorted(frozenset[str]().union(*(tokens_of(text) for text in texts)))
    free_ids = vocab_size - len(SPECIAL)
    if len(spoken) > free_ids:
        raise CorpusError(
            f"the corpus has {len(spoken)} distinct characters, "
            f"and a vocabulary of {vocab_size} has room for {free_ids} besides the {len(SPECIAL)} special tokens",
            next_step=f"choose a vocabulary of at least {len(spoken) + len(SPECIAL)}, or choose a smaller corpus",
        )
    used_tokens = {*SPECIAL, *spoken}
    filler = islice((token for token in _fillers() if token not in used_tokens), free_ids - len(spoken))
    return (*LEADING, *spoken, *filler, UNKNOWN)


def check_vocab_size(vocab_size: int) -> None:
    """Refuse a vocabulary in which no text has room.

    Raises:
        VariantError: it is not larger than the number of special tokens.
    """
    if vocab_size <= len(SPECIAL):
        raise VariantError(
            f"a vocabulary of {vocab_size} is too small: {len(SPECIAL)} tokens are special ({', '.join(SPECIAL)})",
            next_step="choose a larger vocabulary, such as 8404",
        )


def seg_dict(token_list: Iterable[str], texts: Iterable[str]) -> str:
    """The text of a `seg_dict` file: what each word is made of, a line each, beginning with the word.

    Published Paraformer folders have one. Each character stands for itself, and so do the corpus'
    words with other characters than Chinese ones and digits: without their line some release makes `<unk>` of them.
    """
    lines = {token: token for token in token_list if len(token) == 1}
    for word in (word for text in texts for word in text.lower().split(" ")):
        # A line is split at white space of any kind.
        if word and not _PLAIN_WORD.fullmatch(word) and not any(map(unspeakable, word)):
            lines.setdefault(word, " ".join(word))
    return "".join(f"{word} {made_of}\n" for word, made_of in lines.items())


def _fillers() -> Iterator[str]:
    yield from (chr(point) for block in _FILLER_BLOCKS for point in block)
    # No vocabulary that is in use gets here, and none that somebody tries out should fail for it.
    yield from (f"<filler{number}>" for number in count())
