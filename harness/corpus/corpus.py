"""Speech whose text is known: the built-in corpus, or the user's own."""

from __future__ import annotations

import hashlib
import json
import shutil
import wave
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.durable import storage_error
from harness.corpus import jsonl as jsonl_form
from harness.corpus import synthesis

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
    """Over keys, texts and the bytes of the audio files; not over their paths."""
    origin: str
    """Where they come from, in words and without paths, for the report."""
    all_texts: tuple[str, ...] | None = None
    """Every text, where not every recording is among the utterances; None where each is."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What is said, utterance by utterance."""
        return tuple(utterance.text for utterance in self.utterances) if self.all_texts is None else self.all_texts


@dataclass(frozen=True, kw_only=True)
class Synthesized:
    """A built-in set of utterances, before it is spoken."""

    name: str
    """Of letters; keys and files begin with it."""
    texts: tuple[str, ...]
    speak: Callable[[Sequence[str]], Sequence[bytes]]
    """16-bit mono samples at 16 kHz of each text."""
    form: str = ""
    """What the samples depend on besides synthesizer and texts."""
    origin: str
    """In words, for the report."""


def build_corpus(cache: Path) -> Corpus:
    """The built-in corpus: synthesized once, then read from `cache` and checked by its hash.

    Raises:
        StackError: the synthesizer is missing or does not work on this machine.
        StoreError: `cache` cannot be written to.
    """
    sentences = Synthesized(
        name="sentence", texts=SENTENCES, speak=synthesis.speak, origin=f"{len(SENTENCES)} sentences"
    )
    return build_synthesized(cache, sentences)


def build_synthesized(cache: Path, synthesized: Synthesized) -> Corpus:
    """A built-in set of utterances: synthesized once, then read from `cache` and checked by its hash.

    Raises:
        StackError: the synthesizer is missing or does not work on this machine.
        StoreError: `cache` cannot be written to.
    """
    from harness.releases.cache import move_into_place, working_folder
    from harness.releases.holdings import note_use

    synthesizer = synthesis.synthesizer()
    ingredients = json.dumps([_FORMAT, str(synthesizer), synthesized.texts, *filter(None, (synthesized.form,))])
    cache = cache.absolute()
    folder = cache / "corpora" / hashlib.sha256(ingredients.encode()).hexdigest()[:16]
    if not _is_whole(folder, synthesized):
        with working_folder(cache) as folder_in_cache:
            _synthesize(folder_in_cache / "corpus", synthesized)
            shutil.rmtree(folder, ignore_errors=True)
            move_into_place(folder_in_cache / "corpus", folder)
    note_use(folder)
    utterances = _utterances(folder, synthesized)
    return Corpus(utterances=utterances, sha256=content_hash(utterances), origin=f"{synthesized.origin}, {synthesizer}")


def content_hash(utterances: Iterable[Utterance]) -> str:
    """SHA-256 over keys, texts and audio bytes, in their order."""
    total = hashlib.sha256()
    for utterance in utterances:
        with utterance.path.open("rb") as audio:
            file_hash = hashlib.file_digest(audio, "sha256").hexdigest()
        total.update(json.dumps([utterance.key, utterance.text, file_hash]).encode())
    return total.hexdigest()


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
        raise storage_error(error, path, "written") from error


def _synthesize(folder: Path, synthesized: Synthesized) -> None:
    folder.mkdir()
    for number, samples in enumerate(synthesized.speak(synthesized.texts)):
        # By its name, `wave` would print a traceback where the file cannot be opened (Python 3.11 to 3.13).
        with (folder / _file_name(synthesized, number)).open("wb") as file, wave.open(file, "wb") as audio:
            audio.setnchannels(1)
            audio.setsampwidth(2)
            audio.setframerate(synthesis.SAMPLING_RATE)
            audio.writeframes(samples)
    (folder / "sha256").write_text(content_hash(_utterances(folder, synthesized)) + "\n", encoding="ascii")


def _is_whole(folder: Path, synthesized: Synthesized) -> bool:
    """Whether the cached files are those that were written."""
    try:
        utterances = _utterances(folder, synthesized)
        return (folder / "sha256").read_text(encoding="ascii").strip() == content_hash(utterances)
    except (OSError, EOFError, wave.Error, UnicodeDecodeError):
        return False


def _utterances(folder: Path, synthesized: Synthesized) -> tuple[Utterance, ...]:
    return tuple(_built_in(folder, synthesized, number) for number in range(len(synthesized.texts)))


def _built_in(folder: Path, synthesized: Synthesized, number: int) -> Utterance:
    path = folder / _file_name(synthesized, number)
    with wave.open(str(path), "rb") as audio:
        return Utterance(
            key=_key(synthesized, number), path=path, samples=audio.getnframes(), text=synthesized.texts[number]
        )


def _key(synthesized: Synthesized, number: int) -> str:
    return f"{synthesized.name}{number + 1:02}"


def _file_name(synthesized: Synthesized, number: int) -> str:
    return f"{_key(synthesized, number)}.wav"
