"""Speech whose text is known: the built-in corpus, or the user's own."""

from __future__ import annotations

import hashlib
import json
import shutil
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CorpusError, StoreError, listing
from harness.speech import jsonl as jsonl_form
from harness.speech import synthesis
from harness.tables import Problems

SENTENCES = (
    "今天天气真好",
    "我们一起去公园走走",
    "请把窗户关上",
    "晚饭想吃什么呢",
    "这本书我看了三遍",
    "他每天早上跑步",
    "火车几点出发",
    "妹妹在学校学画画",
    "周末我想在家休息",
    "厨房里有新鲜的水果",
    "老师让大家安静一下",
    "外面开始下雨了别忘带伞",
    "爷爷喜欢喝热茶",
    "手机快没有电了",
    "明年春天我们去海边旅行",
    "你能帮我找一下钥匙吗",
)
"""What is spoken: everyday sentences, each once, in Chinese characters only."""

# Raise it when the same sentences would come out as other files.
_FORMAT = 1

SHORTEST_SAMPLES = 400
"""One analysis window of 25 ms; the frontends make no features of less."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One stretch of speech and what is said in it."""

    key: str
    path: Path
    """Absolute; a file that soundfile reads, at 16 kHz."""
    samples: int
    """Per channel."""
    text: str

    @property
    def seconds(self) -> float:
        """Length of the speech."""
        return self.samples / synthesis.SAMPLING_RATE


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Utterances, in the order in which they are given to the trainer."""

    utterances: tuple[Utterance, ...]
    sha256: str
    """Over keys, texts and the bytes of the audio files; not over where they lie."""
    origin: str
    """Where they come from, in words and without paths, for the report."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What is said, utterance by utterance."""
        return tuple(utterance.text for utterance in self.utterances)


def build_corpus(cache: Path) -> Corpus:
    """The built-in corpus: synthesized once, then read from `cache` and checked by its hash.

    Raises:
        StackError: the synthesizer is missing or does not work on this machine.
        StoreError: `cache` cannot be written to.
    """
    from harness.releases.cache import settle, workroom

    synthesizer = synthesis.synthesizer()
    ingredients = json.dumps([_FORMAT, str(synthesizer), SENTENCES])
    cache = cache.absolute()
    folder = cache / "corpora" / hashlib.sha256(ingredients.encode()).hexdigest()[:16]
    if not _is_whole(folder):
        with workroom(cache) as room:
            _synthesize(room / "corpus")
            shutil.rmtree(folder, ignore_errors=True)
            settle(room / "corpus", folder)
    utterances = tuple(_built_in(folder, number, text) for number, text in enumerate(SENTENCES))
    return Corpus(
        utterances=utterances,
        sha256=content_hash(utterances),
        origin=f"{len(SENTENCES)} sentences, {synthesizer}",
    )


def content_hash(utterances: Iterable[Utterance]) -> str:
    """SHA-256 over keys, texts and audio bytes, in their order."""
    total = hashlib.sha256()
    for utterance in utterances:
        with utterance.path.open("rb") as audio:
            file_hash = hashlib.file_digest(audio, "sha256").hexdigest()
        total.update(json.dumps([utterance.key, utterance.text, file_hash]).encode())
    return total.hexdigest()


def load_corpus(jsonl: Path, *, token_list: Iterable[str] | None = None) -> Corpus:
    """A user's own corpus; `source` is read relative to the jsonl file's folder.

    Args:
        token_list: the only tokens that texts may become. Without it any text will do,
            as the harness then makes a token list around the corpus.

    Raises:
        CorpusError: with every problem of the file, by line.
    """
    problems = Problems(source=str(jsonl))
    rows = jsonl_form.read_rows(jsonl, problems)
    legal = frozenset(token_list) if token_list is not None else None
    folder = jsonl.absolute().parent
    utterances = tuple(utterance for row in rows if (utterance := _check_row(row, folder, legal, problems)))
    if problems.found:
        raise CorpusError(
            listing(problems.source, problems.found), next_step=f"correct {jsonl} and run the command again"
        )
    return Corpus(
        utterances=utterances,
        sha256=content_hash(utterances),
        origin=f"{len(utterances)} utterance{'s' if len(utterances) != 1 else ''} of {jsonl.name}",
    )


def write_jsonl(utterances: Iterable[Utterance], path: Path) -> None:
    """Write utterances as the jsonl file that every release's `IndexDSJsonl` reads, with absolute paths.

    Raises:
        StoreError: the disk is full, or the place cannot be written to.
    """
    rows = (
        jsonl_form.row(
            utterance.key, utterance.path, utterance.samples * 1000 / synthesis.SAMPLING_RATE, utterance.text
        )
        for utterance in utterances
    )
    try:
        path.write_text("".join(rows), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}", next_step="make room, or choose another place"
        ) from error


def _check_row(row: jsonl_form.Row, folder: Path, legal: frozenset[str] | None, problems: Problems) -> Utterance | None:
    place = f"line {row.line}"
    if legal is not None:
        _check_tokens(row, legal, problems)
    if "://" in row.source:
        problems.add(place, f"`source` is an address, not a file: {row.source} (download it first)")
        return None
    path = folder / row.source
    if not path.is_file():
        problems.add(place, f"no such audio file: {row.source}")
        return None
    samples = _measure(path, row.source, place, problems)
    return None if samples is None else Utterance(key=row.key, path=path, samples=samples, text=row.target)


def _check_tokens(row: jsonl_form.Row, legal: frozenset[str], problems: Problems) -> None:
    # Spaces part words, and upper case is lowered, in all releases but the first few.
    letters = frozenset(row.target) - {" "}
    unknown = sorted(letter for letter in letters if letter not in legal and letter.lower() not in legal)
    if unknown:
        problems.add(f"line {row.line}", f"not in the token list: {' '.join(unknown)}")


def _measure(path: Path, source: str, place: str, problems: Problems) -> int | None:
    """The number of samples, if the file is speech that can be used."""
    import soundfile

    try:
        audio = soundfile.info(path)
    except (RuntimeError, OSError) as error:
        problems.add(place, f"{source} cannot be read as audio: {str(error).rpartition(': ')[2]}")
        return None
    if audio.samplerate != synthesis.SAMPLING_RATE:
        problems.add(
            place,
            f"{source} has {audio.samplerate} samples a second; expected {synthesis.SAMPLING_RATE} (convert it first)",
        )
        return None
    if audio.frames < SHORTEST_SAMPLES:
        problems.add(place, f"{source} has {audio.frames} samples; one analysis window needs {SHORTEST_SAMPLES}")
        return None
    return int(audio.frames)


def _synthesize(folder: Path) -> None:
    folder.mkdir()
    for number, samples in enumerate(synthesis.speak(SENTENCES)):
        with wave.open(str(folder / _file_name(number)), "wb") as audio:
            audio.setnchannels(1)
            audio.setsampwidth(2)
            audio.setframerate(synthesis.SAMPLING_RATE)
            audio.writeframes(samples)
    utterances = tuple(_built_in(folder, number, text) for number, text in enumerate(SENTENCES))
    (folder / "sha256").write_text(content_hash(utterances) + "\n", encoding="ascii")


def _is_whole(folder: Path) -> bool:
    """Whether the cached files are those that were written."""
    try:
        utterances = [_built_in(folder, number, text) for number, text in enumerate(SENTENCES)]
        return (folder / "sha256").read_text(encoding="ascii").strip() == content_hash(utterances)
    except (OSError, EOFError, wave.Error, UnicodeDecodeError):
        return False


def _built_in(folder: Path, number: int, text: str) -> Utterance:
    path = folder / _file_name(number)
    with wave.open(str(path), "rb") as audio:
        return Utterance(key=_key(number), path=path, samples=audio.getnframes(), text=text)


def _key(number: int) -> str:
    return f"sentence{number + 1:02}"


def _file_name(number: int) -> str:
    return f"{_key(number)}.wav"
