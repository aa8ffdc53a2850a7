"""The token list: a JSON list or text with a token per line, its special tokens, and how FunASR takes anything else."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.cells import Severity
from harness.preflight.findings import Place, PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.folder.file_kinds import FileKind, content_of, text_of
from harness.preflight.folder.model_files import ModelFiles
from harness.preflight.inputs import Inputs

KEY = "tokenizer_conf.token_list"
MOST_TOKENS = 2_000_000
_MARKER = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|", re.DOTALL)
"""What no text contains: `<s>`, `<sos/eos>`, `[PAD]`."""
_NUMBERED = re.compile(r"\S+\s+\d+")
_WITH_SPECIAL_IDS = re.compile(r"former|SenseVoice|SCAMA|UniASR|SANM|BAT", re.IGNORECASE)
_IDS = (("blank_id", 0, "blank"), ("sos", 1, "begin of a sentence"), ("eos", 2, "end of a sentence"))


@dataclass(frozen=True, kw_only=True)
class TokenList:
    """A token list as the release reads it."""

    tokens: tuple[str, ...] = ()
    problem: tuple[str, str, str] | None = None
    """Rule, message and remedy, where it cannot be read."""
    line: int | None = None


def read_tokens(path: Path) -> TokenList:
    """The tokens in the order of their ids, as FunASR's tokenizers read them."""
    try:
        text = text_of(path)
    except OSError as error:
        return _unreadable(error.strerror or "unreadable")
    except UnicodeDecodeError as error:
        return _unreadable(f"not UTF-8: byte {error.start}")
    if path.suffix == ".txt":
        return _of_text(text)
    if path.suffix != ".json":
        return TokenList(
            problem=(
                "tokens-file-name",
                f"{path.name} ends in neither .json nor .txt: FunASR then takes each letter of the path for a token",
                f"rename it to tokens.{'json' if text.lstrip()[:1] in '[{' else 'txt'}, and name it so",
            )
        )
    if text.startswith("\ufeff"):
        return _unreadable("a byte-order mark before the JSON", "save it as UTF-8 without a byte-order mark")
    if text.lstrip()[:1] not in tuple('[{"') and "\n" in text.strip():
        message = f"{path.name} is text with a token per line and no JSON: the training ends before its first step"
        return TokenList(problem=("tokens-unreadable", message, _rewritten(path, "t.splitlines()")), line=1)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _unreadable(str(error)[:200], line=getattr(error, "lineno", None))
    return _of_json(document, path)


def _rewritten(path: Path, tokens: str) -> str:
    """The line that makes a JSON list of a file; `t` is its text and `d` its JSON."""
    source = "d = json.loads(t); " if "d" in re.findall(r"\w+", tokens) else ""
    return (
        "in a copy of the folder: python -c 'import json, pathlib, sys; p = pathlib.Path(sys.argv[1]); "
        f't = p.read_text("utf-8"); {source}p.write_text(json.dumps({tokens}, ensure_ascii=False), "utf-8")\' '
        f"{shlex.quote(path.name)}"
    )


def _unreadable(
    reason: str, remedy: str = "save it as UTF-8: a JSON list of strings", line: int | None = None
) -> TokenList:
    message = f"the token list cannot be read ({reason}): the training ends before its first step"
    return TokenList(problem=("tokens-unreadable", message, remedy), line=line)


def _of_text(text: str) -> TokenList:
    lines = text.split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    tokens = tuple(line.rstrip() for line in lines[:MOST_TOKENS])
    numbered = sum(1 for line in tokens if _NUMBERED.fullmatch(line))
    if numbered > len(tokens) // 2 > 0:
        message = "tokens.txt has a token and its id per line, and FunASR takes the whole line for the token"
        return TokenList(problem=("tokens-with-ids", message, "keep the first column only: cut -d' ' -f1"))
    return TokenList(tokens=tokens)


def _of_json(document: Any, path: Path) -> TokenList:
    if isinstance(document, dict):
        return _of_mapping(document, path)
    if not isinstance(document, list):
        kind = type(document).__name__
        message = f"the token list is a JSON {kind} and no list: the training ends before its first step"
        return TokenList(problem=("tokens-not-a-list", message, 'write it as ["<blank>", "<s>", "</s>", …, "<unk>"]'))
    if any(not isinstance(token, str) for token in document):
        first = next(number for number, token in enumerate(document) if not isinstance(token, str))
        message = (
            f"the token with id {first} is {json.dumps(document[first])[:60]} and no string, which no text can match"
        )
        return TokenList(problem=("tokens-not-strings", message, "write every token in quotes"))
    return TokenList(tokens=tuple(document[:MOST_TOKENS]))


def _of_mapping(ids_by_token: dict[str, Any], path: Path) -> TokenList:
    values = list(ids_by_token.values())
    if values and all(isinstance(value, str) for value in values):
        message = "tokens.json maps ids to tokens, and FunASR takes the keys for the tokens: every text becomes `<unk>`"
        return TokenList(
            problem=("tokens-not-a-list", message, _rewritten(path, "[d[k] for k in sorted(d, key=int)]")),
        )
    in_order = values == list(range(len(values)))
    message = "tokens.json maps tokens to ids and is no list: " + (
        "it trains, and decoding then ends with a KeyError"
        if in_order
        else "FunASR numbers its keys in the order of the file, so the tokens get other ids than these, and decoding "
        "ends with a KeyError"
    )
    return TokenList(problem=("tokens-not-a-list", message, _rewritten(path, "sorted(d, key=d.get)")))


def check_tokens(inputs: Inputs, files: ModelFiles) -> PreflightPart:
    """The findings about the token list in force."""
    named = files.named.get(KEY)
    if named is None or content_of(named.path).kind is not FileKind.TEXT:
        return PreflightPart()
    token_list = read_tokens(named.path)
    place = Place(file=str(named.path), line=token_list.line)
    if token_list.problem is not None:
        rule, message, remedy = token_list.problem
        return PreflightPart(
            findings=(
                PreflightFinding(severity=Severity.BROKEN, rule=rule, message=message, place=place, remedy=remedy),
            )
        )
    findings = (
        *_duplicates(token_list.tokens, place),
        *_unknown(inputs, token_list.tokens, place),
        *_spaces(token_list.tokens, place),
    )
    special = tuple(_special_ids(inputs, token_list.tokens, place))
    count = PreflightFact(section="model folder", label="tokens", value=f"{len(token_list.tokens):,}")
    return PreflightPart(findings=(*findings, *special), facts=(count,))


def _duplicates(tokens: Sequence[str], place: Place) -> Iterator[PreflightFinding]:
    twice = [token for token, times in Counter(tokens).items() if times > 1]
    if twice:
        first = [(token, [number for number, listed in enumerate(tokens) if listed == token]) for token in twice[:3]]
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="tokens-duplicate",
            message="a token is listed twice, and the tokenizer refuses the list: the training cannot start",
            place=place,
            evidence=tuple(f"{token!r}: ids {', '.join(map(str, ids[:4]))}" for token, ids in first),
            remedy=(
                "keep one of each; to keep the ids of a checkpoint, replace the second by a token that no text contains"
            ),
            count=len(twice),
        )


def _unknown(inputs: Inputs, tokens: Sequence[str], place: Place) -> Iterator[PreflightFinding]:
    unknown = inputs.settings.get("tokenizer_conf.unk_symbol", "<unk>")
    if isinstance(unknown, str) and unknown not in tokens:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="tokens-without-unknown",
            message=f"the token list has no `{unknown}`, and the tokenizer refuses it: the training cannot start",
            place=place,
            evidence=(f"{len(tokens):,} tokens, the last: {tokens[-1]!r}" if tokens else "no token",),
            remedy=f'add "{unknown}" at the end of the list',
        )


def _spaces(tokens: Sequence[str], place: Place) -> Iterator[PreflightFinding]:
    spaced = [token for token in tokens if token != token.strip() and token.strip()]
    if spaced:
        yield PreflightFinding(
            severity=Severity.WRONG if 2 * len(spaced) > len(tokens) else Severity.MINOR,
            rule="tokens-with-spaces",
            message="tokens begin or end with white space, so no character of a text matches them",
            place=place,
            evidence=tuple(repr(token) for token in spaced[:3]),
            remedy="strip the tokens",
            count=len(spaced),
        )


def _special_ids(inputs: Inputs, tokens: Sequence[str], place: Place) -> Iterator[PreflightFinding]:
    if not _WITH_SPECIAL_IDS.search(str(inputs.settings.get("model", ""))) or not tokens:
        return
    ordinary_tokens, beyond = [], []
    for name, default, _ in _IDS:
        value = inputs.settings.get(f"model_conf.{name}")
        number = value if isinstance(value, int) else default
        if not -len(tokens) <= number < len(tokens):
            beyond.append((name, number))
        elif (
            not _MARKER.fullmatch(tokens[number].strip())
            and "blank" not in tokens[number]
            and (value is not None or number < 3)
        ):
            ordinary_tokens.append((name, number, tokens[number]))
    if ordinary_tokens:
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="tokens-special-ids",
            message=(
                "the model keeps ids for blank, begin and end of a sentence, and the list has ordinary tokens there: "
                "they never appear in what the model writes"
            ),
            place=place,
            evidence=tuple(f"{name} is {number}, in the list {token!r}" for name, number, token in ordinary_tokens),
            remedy='begin the list with "<blank>", "<s>", "</s>"',
            count=len(ordinary_tokens),
        )
    for name, number in beyond:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="special-id-beyond-tokens",
            message=f"`model_conf.{name}` is {number}, and the list has the ids 0 to {len(tokens) - 1}",
            place=inputs.settings.place(f"model_conf.{name}"),
            remedy=f"set model_conf.{name} to the id of the token that is meant, in a copy of config.yaml",
        )
