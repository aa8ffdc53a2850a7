"""The recordings of the rows: headers of all, and the samples of some.

Headers of PCM WAV files are read here, which takes a tenth of the time that opening them as audio does; all other
formats, and what is odd, go to libsndfile.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.corpus.user_speech import evenly

MOST_HEADERS = 200_000
"""Recordings whose header is read, evenly spaced over the rows, unless all are requested."""

DECODED = 200
"""Recordings whose samples are read, evenly spaced over the rows, unless all are requested."""

SILENT = 1e-4
"""Of full scale: the highest sample of a recording that is digital silence, or next to it."""

CLIPPED = 0.02
"""Share of samples at full scale above which a recording is called clipped."""

_THREADS = 8
_BATCH = 256
_HEAD = 4096
_PCM = frozenset({1, 3, 0xFFFE})
_PLACEHOLDER = 0x7FFFFF00
"""A size that programs write that do not know the length yet."""
_LONGEST_READ = 60
"""Seconds of a recording that are looked at for silence."""
_BY_FFMPEG = frozenset({".m4a", ".aac", ".mp4", ".amr", ".webm", ".wma", ".opus", ".mkv", ".mov", ".3gp", ".ape"})


class AudioFault(StrEnum):
    """Why a recording cannot be measured, or not trusted."""

    MISSING = "audio-missing"
    ADDRESS = "audio-address"
    """An address on the network: nothing is fetched here."""
    UNREADABLE = "audio-unreadable"
    EMPTY = "audio-empty"
    SHORT = "audio-too-short"
    """Shorter than one analysis window."""
    UNKNOWN_FORMAT = "audio-format-unknown"
    """Of a kind that only ffmpeg reads."""
    TRUNCATED = "audio-truncated"
    SILENT = "audio-silent"
    CLIPPED = "audio-clipped"
    NOT_FINITE = "audio-not-finite"


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """What is known of one recording."""

    samples: int = 0
    """Per channel."""
    rate: int = 0
    """0 where nothing could be measured."""
    channels: int = 1
    fault: AudioFault | None = None
    detail: str = ""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / self.rate if self.rate else 0.0


def read_headers(paths: Sequence[str], root: Path, *, read_all: bool) -> dict[str, AudioHeader]:
    """The headers of the distinct paths, read from `root` where they are relative."""
    distinct = list(dict.fromkeys(paths))
    if not read_all and len(distinct) > MOST_HEADERS:
        distinct = [distinct[number] for number in evenly(range(len(distinct)), MOST_HEADERS)]
    batches = [distinct[first : first + _BATCH] for first in range(0, len(distinct), _BATCH)]
    base = str(root)
    with ThreadPoolExecutor(_THREADS) as pool:
        headers: dict[str, AudioHeader] = {}
        for part in pool.map(lambda batch: {path: header_of(path, base) for path in batch}, batches):
            headers |= part
    return headers


def header_of(path: str, root: str) -> AudioHeader:
    """The header of one recording."""
    if "://" in path:
        return AudioHeader(fault=AudioFault.ADDRESS)
    place = os.path.join(root, path)  # noqa: PTH118 - called for each of 100,000 rows
    try:
        # A pipe would block until somebody writes to it.
        handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        return AudioHeader(fault=AudioFault.MISSING, detail=getattr(error, "strerror", None) or "no such path")
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return AudioHeader(fault=AudioFault.MISSING, detail="no regular file")
        if not status.st_size:
            return AudioHeader(fault=AudioFault.EMPTY, detail="0 bytes")
        head = os.read(handle, _HEAD)
    except OSError as error:
        return AudioHeader(fault=AudioFault.UNREADABLE, detail=error.strerror or "cannot be read")
    finally:
        os.close(handle)
    return _wav_header(head, status.st_size) or _any_header(place, head)


def _wav_header(head: bytes, size: int) -> AudioHeader | None:
    """Of a PCM WAV file; None for any other, and where the samples do not begin within the bytes at hand."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    place, rate, channels, width = 12, 0, 0, 0
    while place + 8 <= len(head):
        name, length = head[place : place + 4], struct.unpack_from("<I", head, place + 4)[0]
        if name == b"fmt " and place + 24 <= len(head):
            tag, channels, rate, _, width = struct.unpack_from("<HHIIH", head, place + 8)
            if tag not in _PCM:
                return None
        if name == b"data":
            return _measured(length, size - place - 8, rate, channels, width)
        place += 8 + length + length % 2
    return None


def _measured(stated_bytes: int, actual_bytes: int, rate: int, channels: int, width: int) -> AudioHeader | None:
    if not rate or not channels or not width:
        return None
    actual_bytes = max(0, actual_bytes)
    known = 0 < stated_bytes < _PLACEHOLDER
    samples = (min(stated_bytes, actual_bytes) if known or not actual_bytes else actual_bytes) // width
    if not samples:
        return AudioHeader(0, rate, channels, AudioFault.EMPTY, "no samples")
    cut = known and stated_bytes - actual_bytes >= width
    detail = f"the header says {stated_bytes // width / rate:.2f} s, {samples / rate:.2f} s are there" if cut else ""
    return AudioHeader(samples, rate, channels, AudioFault.TRUNCATED if cut else None, detail)


def _any_header(place: str, head: bytes) -> AudioHeader:
    import soundfile

    try:
        audio = soundfile.info(place)
    except (RuntimeError, OSError, ValueError) as error:
        if Path(place).suffix.lower() in _BY_FFMPEG:
            return AudioHeader(fault=AudioFault.UNKNOWN_FORMAT, detail=Path(place).suffix.lower())
        return AudioHeader(fault=AudioFault.UNREADABLE, detail=_kind_of(head) or str(error).rpartition(": ")[2])
    if not audio.frames:
        return AudioHeader(0, int(audio.samplerate), int(audio.channels), AudioFault.EMPTY, "no samples")
    return AudioHeader(int(audio.frames), int(audio.samplerate), int(audio.channels))


def _kind_of(head: bytes) -> str:
    """What a file is that is no audio, where its first bytes say so."""
    start = head.lstrip()[:200].lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the recording: git lfs pull"
    if start.startswith((b"<!doctype", b"<html")):
        return "a web page, not a recording"
    return "nothing but zero bytes" if not head.strip(b"\0") else ""


def decoded(paths: Iterable[str], headers: Mapping[str, AudioHeader], root: Path) -> dict[str, AudioHeader]:
    """Those recordings, by path, whose samples are silence, clipped or no numbers, or cannot be decoded."""
    with ThreadPoolExecutor(2) as pool:
        known = [path for path in paths if (header := headers.get(path)) and header.rate and header.fault is None]
        faults = pool.map(lambda path: _speech_fault(root / path, headers[path]), known)
        return {path: fault for path, fault in zip(known, faults, strict=True) if fault is not None}


def _speech_fault(path: Path, header: AudioHeader) -> AudioHeader | None:
    import numpy
    import soundfile

    def fault(kind: AudioFault, detail: str = "") -> AudioHeader:
        return AudioHeader(header.samples, header.rate, header.channels, kind, detail)

    try:
        samples, _ = soundfile.read(path, frames=_LONGEST_READ * header.rate, dtype="float32", always_2d=True)
    except (RuntimeError, OSError, ValueError) as error:
        return fault(AudioFault.UNREADABLE, str(error).rpartition(": ")[2])
    if not len(samples):
        return fault(AudioFault.EMPTY, "no samples")
    if not numpy.isfinite(samples).all():
        return fault(AudioFault.NOT_FINITE)
    loudness = numpy.abs(samples)
    if float(loudness.max()) <= SILENT:
        return fault(AudioFault.SILENT)
    share = float((loudness >= 0.9999).mean())
    return fault(AudioFault.CLIPPED, f"{share:.0%} of its samples are at full scale") if share > CLIPPED else None
