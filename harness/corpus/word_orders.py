"""The utterances that `finetune` trains on: the same few words in other orders, and orders that it never trains on.

Every utterance is as long as every other, in samples and in tokens, and says each of the `WORDS` once. So a model that
does not hear, but knows length and position, is right at one place in six; one that recognises utterances as a whole
knows nothing of new orders; one that averages over time finds the same in each. Only a model that hears each word where
it is said can be right about the orders in `held_out`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from harness.corpus import synthesis
from harness.corpus.corpus import Corpus, Synthesized, build_synthesized
from harness.corpus.user_speech import load_corpus

WORDS = "水海书天火茶"
"""One syllable each, all different; the built-in sentences have them all, so that no token list changes."""

SLOT_SECONDS = 0.3
"""What each word takes: five stacked frames."""

TRAINED = 24
HELD_OUT = 36
"""Multiples of the number of words: each word is at each place equally often."""

TRAIN_FILE, HELD_OUT_FILE = "words.jsonl", "held_out.jsonl"
"""Their names in a bundle."""

_SEED = 20240127


@dataclass(frozen=True, kw_only=True)
class WordOrders:
    """Both sets of utterances."""

    train: Corpus
    held_out: Corpus


def build_word_orders(cache: Path) -> WordOrders:
    """Both sets, synthesized once, then read from `cache` and checked by their hash.

    Raises:
        StackError: the synthesizer is missing or does not work on this machine.
        StoreError: `cache` cannot be written to.
    """
    all_orders = orders(TRAINED + HELD_OUT)
    return WordOrders(
        train=_corpus(cache, "words", all_orders[:TRAINED]), held_out=_corpus(cache, "new", all_orders[TRAINED:])
    )


def load_word_orders(folder: Path) -> WordOrders:
    """Both sets as a bundle carries them.

    Raises:
        CorpusError: with every problem of the files, by line.
    """
    return WordOrders(train=load_corpus(folder / TRAIN_FILE), held_out=load_corpus(folder / HELD_OUT_FILE))


def orders(count: int) -> tuple[str, ...]:
    """`count` different orders; in each run of `len(WORDS)` of them each word is at each place once.

    Each run is a Latin square: the cyclic one with its rows, columns and symbols in random order.
    """
    size, random = len(WORDS), Random(_SEED)  # noqa: S311 - nothing secret
    words: list[str] = []
    while len(words) < count:
        symbols, places, rows = (random.sample(range(size), size) for _ in range(3))
        square = ["".join(WORDS[symbols[(row + place) % size]] for place in places) for row in rows]
        if not set(square) & set(words):
            words += square
    return tuple(words[:count])


def _corpus(cache: Path, name: str, texts: Sequence[str]) -> Corpus:
    return build_synthesized(
        cache,
        Synthesized(
            name=name,
            texts=tuple(texts),
            speak=lambda texts: synthesis.speak_in_slots(texts, SLOT_SECONDS),
            form=f"words in slots of {SLOT_SECONDS} s",
            origin=f"{len(texts)} orders of {len(WORDS)} words",
        ),
    )
