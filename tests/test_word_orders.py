"""The utterances of `finetune`: what makes them hard for whoever does not hear."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from parsed import targets_with_places

from harness.corpus.corpus import SENTENCES
from harness.corpus.word_orders import HELD_OUT, TRAINED, WORDS, WordOrders, build_word_orders, orders


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> WordOrders:
    return build_word_orders(tmp_path_factory.mktemp("cache"))


def test_each_word_stands_at_each_place_equally_often() -> None:
    for chosen in (orders(TRAINED + HELD_OUT)[:TRAINED], orders(TRAINED + HELD_OUT)[TRAINED:]):
        for place in range(len(WORDS)):
            assert Counter(text[place] for text in chosen) == dict.fromkeys(WORDS, len(chosen) // len(WORDS))


def test_no_order_occurs_twice_and_each_has_every_word() -> None:
    made = orders(TRAINED + HELD_OUT)
    assert len(set(made)) == TRAINED + HELD_OUT
    assert {frozenset(text) for text in made} == {frozenset(WORDS)}
    assert {len(text) for text in made} == {len(WORDS)}


def test_what_can_be_right_without_hearing_is_one_in_six() -> None:
    rows = [[WORDS.index(word) for word in text] for text in orders(TRAINED)]
    numbers = range(len(rows))
    read = targets_with_places(
        {
            "rows": rows,
            "frames": [30] * TRAINED,
            "steps": [[[row]] for row in numbers],
            "right": [[["0" * len(WORDS)]] for _ in numbers],
        }
    )
    assert read is not None
    assert read.right_in(range(TRAINED)).deaf == pytest.approx(1 / len(WORDS))


def test_the_words_are_in_the_token_list_already() -> None:
    """The model folders are the same with and without them."""
    assert set(WORDS) <= set("".join(SENTENCES))


def test_all_utterances_are_equally_long(built: WordOrders) -> None:
    both = (*built.train.utterances, *built.held_out.utterances)
    assert {one.samples for one in both} == {28_800}
    assert len({one.key for one in both}) == TRAINED + HELD_OUT
    assert built.train.texts == orders(TRAINED)


def test_the_same_word_sounds_alike_wherever_it_is_said(built: WordOrders) -> None:
    import numpy
    import soundfile

    slot = 4_800
    spoken: dict[str, list[object]] = {}
    for one in built.train.utterances[:8]:
        samples, _ = soundfile.read(one.path, dtype="int16")
        for place, word in enumerate(one.text):
            spoken.setdefault(word, []).append(samples[place * slot : (place + 1) * slot].astype(float))
    for pieces in spoken.values():
        # But for the room noise, which is another in each utterance.
        assert max(numpy.abs(numpy.asarray(one) - pieces[0]).max() for one in pieces) <= 2 * 16 + 1
    firsts = [numpy.asarray(pieces[0]) for pieces in spoken.values()]
    assert min(numpy.abs(a - b).max() for a in firsts for b in firsts if a is not b) > 1000


def test_they_come_out_alike_each_time(built: WordOrders, tmp_path: Path) -> None:
    again = build_word_orders(tmp_path)
    assert (again.train.sha256, again.held_out.sha256) == (built.train.sha256, built.held_out.sha256)
