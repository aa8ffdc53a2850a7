"""`explain --train --tokens`: the unigram baseline of a user's texts, and the losses of a log beside it."""

from __future__ import annotations

import ast
import io
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_explain_silent import step_line

from harness import cli
from harness.core.errors import InputError
from harness.explain.explain import explain_stream
from harness.explain.own_texts import OwnTexts, read_own_texts, tokens_of
from harness.rules.unigram import Criterion, Unigram

TOKENS = ["<blank>", "<s>", "</s>", *"天气很好我们去公园走", *"abcdefgh", "<unk>"]
"""Without 今 and capitals."""
TEXTS = ["今天天气很好", "我们去公园", "好 天气", "我走abc", "去 Cafe 好"]
CONFIG = "model: Paraformer\ntokenizer: CharTokenizer\nmodel_conf:\n  lsm_weight: 0.1\n  length_normalized_loss: {}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokens.json").write_text(json.dumps(TOKENS, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG.format("true"), encoding="utf-8")
    rows = [{"key": f"r{n}", "source": "x.wav", "source_len": 9, "target": text} for n, text in enumerate(TEXTS)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


def of(folder: Path) -> OwnTexts:
    return read_own_texts(folder / "train.jsonl", folder)


def expected(rows: list[list[int]]) -> float:
    criterion = Criterion(classes=len(TOKENS), smoothing=0.1, normalize_length=True)

    def loss(some: list[list[int]]) -> float:
        counts = Counter(token for row in some for token in row)
        return Unigram.of(criterion, counts).loss([tuple(row) for row in some])

    return min(loss(rows), loss([[*row, -1] for row in rows]))


def test_the_baseline_is_that_of_the_rules_for_learning(folder: Path) -> None:
    ids = {token: number for number, token in enumerate(TOKENS)}
    rows = [[ids.get(one, len(TOKENS) - 1) for one in text if one != " "] for text in TEXTS]
    found = of(folder)
    assert found.baseline == pytest.approx(expected(rows), abs=1e-9)
    assert (found.rows, found.tokens, found.unknown) == (5, sum(map(len, rows)), 2)
    assert found.assumed == ""


def test_a_loss_that_is_a_sum_over_a_rows_tokens_has_its_own_unit(folder: Path) -> None:
    by_token = of(folder)
    (folder / "config.yaml").write_text(CONFIG.format("false"), encoding="utf-8")
    assert of(folder).baseline == pytest.approx(by_token.baseline * by_token.tokens / by_token.rows)


def test_what_is_assumed_without_a_config_is_said(folder: Path) -> None:
    known = of(folder)
    (folder / "config.yaml").unlink()
    assert "no config.yaml" in of(folder).assumed
    assert of(folder).baseline == known.baseline


def sentencepiece(folder: Path) -> None:
    (folder / "config.yaml").write_text("tokenizer: SentencepiecesTokenizer\n")
    (folder / "tokens.json").unlink()


def wrong_inputs() -> dict[str, Callable[[Path], Any]]:
    return {
        "no rows": lambda folder: (folder / "train.jsonl").write_text("", encoding="utf-8"),
        "no row file": lambda folder: (folder / "train.jsonl").unlink(),
        "no list": lambda folder: (folder / "tokens.json").unlink(),
        "no tokens": lambda folder: (folder / "tokens.json").write_text("[]", encoding="utf-8"),
        "a mapping": lambda folder: (folder / "tokens.json").write_text('{"a": 0}', encoding="utf-8"),
        "SentencepiecesTokenizer": sentencepiece,
        "smoothing": lambda folder: (folder / "config.yaml").write_text("model_conf:\n  lsm_weight: much\n"),
        "seg_dict": lambda folder: (folder / "seg_dict").write_bytes(b"\xff\xfe"),
    }


def test_a_token_list_that_is_not_there_is_named_as_such(folder: Path) -> None:
    with pytest.raises(InputError, match=r"other\.json: no such file or folder"):
        read_own_texts(folder / "train.jsonl", folder / "other.json")


@pytest.mark.parametrize("name", wrong_inputs())
def test_what_cannot_be_used_is_named(folder: Path, name: str) -> None:
    wrong_inputs()[name](folder)
    with pytest.raises(InputError, match=name if name == "SentencepiecesTokenizer" else "."):
        of(folder)


def attention_log(values: list[float], *, epochs: int, rate: float = 1e-4) -> str:
    """A finished training whose steps have these attention losses."""
    steps = len(values) // epochs
    text = ""
    for number, value in enumerate(values):
        line = step_line(number // steps, number % steps, loss=value, epochs=epochs, rate=rate)
        text += line.replace("('loss_att', 1.0)", f"('loss_att', {value:.3f})")
    return text + "Checkpoint saved to exp/model.pt.ep9\naverage_checkpoints: ['exp/model.pt.ep9']\n"


def rules(text: str, texts: OwnTexts | None) -> dict[str, str]:
    report = explain_stream(io.BytesIO(text.encode()), source="x", named=None, cache=Path("/nowhere"), texts=texts)
    return {one.rule: str(one.severity) for one in report.explanations}


def losses(level: float, *, fall: float = 0.0, count: int = 300, spread: float = 0.1) -> list[float]:
    draw = random.Random(1)
    return [level - fall * n / count + draw.gauss(0, spread) for n in range(count)]


def test_a_loss_that_stands_at_the_baseline_is_named_with_a_severity_by_how_long_it_did(folder: Path) -> None:
    texts = of(folder)
    standing = losses(texts.baseline)
    assert rules(attention_log(standing, epochs=20), texts) == {"not-learning": "broken"}
    assert rules(attention_log(standing, epochs=5), texts) == {"not-learning": "minor"}


@pytest.mark.parametrize("name", ["below", "falling", "few", "unfinished", "not given"])
def test_a_sound_neighbour_is_not_accused_of_not_learning(folder: Path, name: str) -> None:
    texts = of(folder)
    values = {
        "below": losses(0.7 * texts.baseline),
        "falling": losses(1.5 * texts.baseline, fall=0.5 * texts.baseline),
        "few": losses(texts.baseline, count=100),
    }.get(name, losses(texts.baseline))
    log = attention_log(values, epochs=20)
    if name == "unfinished":
        log = log.partition("Checkpoint")[0].replace("/20,", "/90,")
    assert "not-learning" not in rules(log, None if name == "not given" else texts)


def test_texts_of_one_token_are_named_with_their_cause(folder: Path) -> None:
    rows = [json.dumps({"key": str(n), "source": "x.wav", "target": "☃☃☃"}) for n in range(12)]
    (folder / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    found = rules(attention_log(losses(0.1, spread=0.01), epochs=20), of(folder))
    assert found == {"texts-of-one-token": "broken"}


def test_the_command_shows_the_baseline_and_where_the_training_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "train.log").write_text(attention_log(losses(0.5, spread=0.01), epochs=20), encoding="utf-8")
    given = [str(folder / "train.log"), "--train", str(folder / "train.jsonl"), "--tokens"]
    assert cli.main(["explain", *given, str(folder / "tokens.json")]) == 0
    out = capsys.readouterr().out
    assert f"unigram baseline {of(folder).baseline:.3f}" in " ".join(out.split())
    assert "mean loss_att of the last epoch 0.5" in " ".join(out.split())
    assert cli.main(["explain", *given[:3]]) == 2
    assert "--tokens" in capsys.readouterr().err


@pytest.mark.release
def test_the_tokens_are_those_of_the_releases_tokenizer(layout: Callable[[str], Path]) -> None:
    """`seg_tokenize` and the loop without a seg_dict, as they lie in the newest release's file."""
    path = layout("1.4.16") / "funasr" / "tokenizer" / "char_tokenizer.py"
    tree = ast.parse(path.read_text("utf-8"))
    wanted = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "seg_tokenize"]
    scope: dict[str, Any] = {"re": re}
    exec(compile(ast.Module(body=wanted, type_ignores=[]), str(path), "exec"), scope)
    words = {one: one for one in TOKENS if len(one) == 1} | {"cafe": "c@@ afe", "天气": "天 气"}
    for text in [*TEXTS, " 好 ", "，好", "a1天", "", "  ", "天气 cafe CAFE", "Ωmega 好"]:
        assert tokens_of(text, words) == scope["seg_tokenize"](text.strip().split(" "), words), text
    assert tokens_of("好 Ab", None) == ["好", "A", "b"]
