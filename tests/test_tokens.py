"""Token lists of exactly the asked size, which agree with FunASR's CharTokenizer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import CorpusError, VariantError
from harness.corpus.tokens import SPECIAL, check_vocab_size, make_token_list, seg_dict, tokens_of

TEXTS = ("今天天气真好", "火车几点出发")


@given(vocab_size=st.integers(min_value=len(SPECIAL) + 11, max_value=3000), texts=st.lists(st.sampled_from(TEXTS)))
def test_a_token_list_has_the_asked_size_and_no_token_twice(vocab_size: int, texts: list[str]) -> None:
    tokens = make_token_list(texts, vocab_size)
    assert len(tokens) == len(set(tokens)) == vocab_size
    assert tokens[:3] == ("<blank>", "<s>", "</s>")
    assert tokens[-1] == "<unk>"
    assert set("".join(texts)) <= set(tokens)


@pytest.mark.parametrize("vocab_size", [8404, 30_000, 152_000])
def test_large_vocabularies_are_filled_with_distinct_tokens_that_survive_json(vocab_size: int) -> None:
    tokens = make_token_list(TEXTS, vocab_size)
    assert len(set(tokens)) == vocab_size
    assert tuple(json.loads(json.dumps(tokens, ensure_ascii=False).encode("utf-8"))) == tokens
    assert not any(letter.isspace() for token in tokens for letter in token)


def test_the_order_of_texts_does_not_change_the_ids() -> None:
    assert make_token_list(TEXTS, 50) == make_token_list(TEXTS[::-1], 50)


def test_the_smallest_vocabulary_that_fits_is_accepted_and_one_less_is_refused() -> None:
    distinct = len(set("".join(TEXTS)))
    assert make_token_list(TEXTS, distinct + 4)[3:-1] == tuple(sorted(set("".join(TEXTS))))
    with pytest.raises(CorpusError, match=f"choose a vocabulary of at least {distinct + 4}"):
        make_token_list(TEXTS, distinct + 3)


@pytest.mark.parametrize("vocab_size", [0, 4])
def test_a_vocabulary_of_special_tokens_alone_is_refused(vocab_size: int) -> None:
    with pytest.raises(VariantError, match="4 tokens are special"):
        check_vocab_size(vocab_size)


def test_spaces_and_upper_case_have_tokens_for_the_releases_that_keep_them() -> None:
    assert tokens_of("好 OK") == {"好", "<space>", "O", "K", "o", "k"}


def test_seg_dict_spells_out_only_the_words_that_some_release_would_lose() -> None:
    lines = seg_dict(["<blank>", "好", "o", "<unk>"], ["很好 OK吗", "二〇二四"]).splitlines()
    assert lines == ["好 好", "o o", "ok吗 o k 吗", "二〇二四 二 〇 二 四"]
