"""Findings about the recordings: missing, unreadable, empty, cut, silent; rates and channels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.rows.audio import AudioFault
from harness.preflight.rows.gathered import FEW, Gathered

SHORTEST_SECONDS = 0.025
"""One analysis window: of less the frontend makes no frame."""


def check(rows: Gathered, inputs: Inputs) -> Iterator[PreflightFinding]:
    """What is wrong with a set's recordings."""
    replaces = replaces_unreadable(inputs)
    numbers: dict[AudioFault, list[int]] = defaultdict(list)
    for number, header in enumerate(rows.headers_by_row):
        fault = header.fault or (
            speech_fault.fault if (speech_fault := rows.heard.get(rows.file.rows[number].source)) else None
        )
        if fault is None and header.rate and header.seconds < SHORTEST_SECONDS:
            fault = AudioFault.SHORT
        if fault is not None:
            numbers[fault].append(number)
    if missing := numbers.pop(AudioFault.MISSING, []):
        yield _missing(rows, inputs, missing, replaces)
    for fault, affected in numbers.items():
        stops = fault in _STOPS or (fault is AudioFault.SHORT and not _shrinks_window(inputs))
        yield _faulty(rows, fault, affected, stops=stops, replaces=replaces)
    yield from _about_rates(rows, inputs)
    yield from _about_channels(rows)


def replaces_unreadable(inputs: Inputs) -> bool:
    """Whether this release's dataset draws another row where a recording cannot be read, and does not stop."""
    if not str(inputs.settings.get("dataset", "AudioDataset")).startswith("SenseVoice"):
        return False
    path = inputs.install_dir / "funasr/datasets/sense_voice_datasets/datasets.py"
    return path.is_file() and "Loading wav failed" in path.read_text(encoding="utf-8", errors="replace")


def _shrinks_window(inputs: Inputs) -> bool:
    """Whether this release's frontend takes a recording shorter than its window as one frame."""
    path = inputs.install_dir / "funasr/frontends/wav_frontend.py"
    return path.is_file() and "min(self.frame_length" in path.read_text(encoding="utf-8", errors="replace")


def _missing(rows: Gathered, inputs: Inputs, numbers: list[int], replaces: bool) -> PreflightFinding:
    """Missing recordings; with the folder in which they would be there, if there is one."""
    named = [rows.file.rows[number] for number in numbers]
    relative = [row for row in named if not Path(row.source).is_absolute()]
    evidence, remedy = [], "name each recording by its absolute path"
    if relative:
        evidence.append(f"relative paths are read from the working directory of the training, {inputs.root}")
        home = rows.data.files[relative[0].file].absolute().parent
        found_there = sum(_exists(rows.data.files[row.file].absolute().parent / row.source) for row in relative[:200])
        if found_there:
            evidence.append(f"{found_there} of {len(relative[:200])} are there relative to the jsonl's folder")
            remedy = f"start the training in {home} (cd {home}), or --fix FILE writes absolute paths"
    effect = "the dataset draws another row at random in its place" if replaces else "the training stops at its batch"
    return rows.finding(
        AudioFault.MISSING.value,
        f"the recording is not there: {effect}",
        numbers,
        severity=None if replaces and len(numbers) < rows.count else Severity.BROKEN,
        details={number: rows.file.rows[number].source[-80:] for number in numbers[:8]},
        evidence=evidence,
        remedy=remedy,
    )


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


_SENTENCES = {
    AudioFault.ADDRESS: ("`source` is an address: FunASR downloads it in each epoch", "download it first"),
    AudioFault.UNREADABLE: (
        "the recording cannot be read as audio",
        "convert it: ffmpeg -i FILE -ar 16000 -ac 1 FILE.wav",
    ),
    AudioFault.EMPTY: ("the recording has no samples", "take the row out"),
    AudioFault.SHORT: ("the recording is shorter than one analysis window of 25 ms", "take the row out"),
    AudioFault.UNKNOWN_FORMAT: (
        "only ffmpeg reads recordings of this kind: FunASR needs it on the training machine, or stops",
        "convert it: ffmpeg -i FILE -ar 16000 -ac 1 FILE.wav",
    ),
    AudioFault.TRUNCATED: (
        "the recording is cut off: it has fewer samples than its header says, and the text is of all",
        "copy the recording again, or take the row out",
    ),
    AudioFault.SILENT: ("the recording is silence: the text is learned from nothing", "take the row out"),
    AudioFault.CLIPPED: ("the recording is clipped", "record it at a lower level, or leave it"),
    AudioFault.NOT_FINITE: (
        "the recording has samples that are no numbers (NaN or infinite): the loss is NaN, or the training stops",
        "convert it to 16 bits: ffmpeg -i FILE -c:a pcm_s16le FILE.wav",
    ),
}
_HEARD = (AudioFault.SILENT, AudioFault.NOT_FINITE)
_STOPS = (AudioFault.UNREADABLE, AudioFault.EMPTY)


def _faulty(rows: Gathered, fault: AudioFault, numbers: list[int], *, stops: bool, replaces: bool) -> PreflightFinding:
    message, remedy = _SENTENCES[fault]
    severity: Severity | None = None
    if stops:
        message += ": the dataset draws another row at random" if replaces else ": the training stops at its batch"
        severity = None if replaces else Severity.BROKEN
    if fault in _HEARD:
        # Of the recordings whose samples were read, which may be a few of all.
        many = Severity.BROKEN if fault is AudioFault.NOT_FINITE else Severity.WRONG
        severity = many if len(numbers) >= FEW * max(1, rows.decoded) else Severity.MINOR
        if rows.decoded < len(rows.headers):
            message += f" (the samples of {rows.decoded} recordings of {len(rows.headers)} were read)"
    if fault in (AudioFault.CLIPPED, AudioFault.ADDRESS, AudioFault.UNKNOWN_FORMAT):
        severity = Severity.MINOR
    headers = {number: rows.headers_by_row[number] for number in numbers[:8]}
    details = {}
    for number, header in headers.items():
        row = rows.file.rows[number]
        detail = header.detail or (speech_fault.detail if (speech_fault := rows.heard.get(row.source)) else "")
        details[number] = f"{row.source[-60:]}{f' ({detail})' if detail else ''}"
    return rows.finding(fault.value, message, numbers, severity=severity, details=details, remedy=remedy)


def _about_rates(rows: Gathered, inputs: Inputs) -> Iterator[PreflightFinding]:
    conf = inputs.settings.get("frontend_conf.fs", 16000)
    expected_rate = conf if isinstance(conf, int) and conf > 0 else 16000
    rates = Counter(header.rate for header in rows.headers_by_row if header.rate)
    other = [
        number for number, header in enumerate(rows.headers_by_row) if header.rate and header.rate != expected_rate
    ]
    if other:
        listed = ", ".join(f"{rate} Hz: {count}" for rate, count in rates.most_common(4))
        low = any(rate < expected_rate for rate in rates)
        yield rows.finding(
            "audio-sampling-rate",
            f"the sampling rate is not the frontend's {expected_rate} Hz: FunASR resamples each recording when it "
            "loads it"
            + (
                f", and above half of its own rate it holds nothing (a model of {expected_rate} Hz was trained on more)"
                if low
                else ""
            ),
            other,
            severity=Severity.MINOR,
            evidence=[listed],
            remedy=f"convert them once: ffmpeg -i FILE -ar {expected_rate} -ac 1 FILE.wav",
        )


def _about_channels(rows: Gathered) -> Iterator[PreflightFinding]:
    several = [number for number, header in enumerate(rows.headers_by_row) if header.channels > 1]
    if several:
        yield rows.finding(
            "audio-channels",
            "several channels: FunASR takes their mean, which mixes two speakers on a channel each",
            several,
            severity=Severity.MINOR,
            remedy="write one channel: ffmpeg -i FILE -ac 1 FILE.wav",
        )
