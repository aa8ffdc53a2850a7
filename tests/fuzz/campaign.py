"""Mutated inputs for one parser, in one process, with what each takes in time and memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tests.fuzz.mutations import bytes_of, documents
from tests.fuzz.targets import Parser

MOST_SECONDS = 2.0
MOST_BYTES = 200 * 2**20
_MOST_FAULTS = 20
_MARK = "RESULT "


@dataclass(kw_only=True)
class FuzzResult:
    """What the inputs of one parser came to."""

    parser: str
    engine: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    """With a clear error."""
    slowest: float = 0.0
    """Seconds of processor time."""
    seconds: float = 0.0
    """Of processor time, all inputs together."""
    grown: int = 0
    """Bytes by which the process's largest size grew."""
    faults: list[str] = field(default_factory=list)
    """Any other exception, an error without words, more than the time or the memory: each with the input."""


class Trial:
    """Gives inputs to a parser and notes what comes of them."""

    def __init__(self, parser: Parser, engine: str) -> None:
        self.parser = parser
        self.result = FuzzResult(parser=parser.name, engine=engine)
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-", dir=_in_memory())
        self._kinds: set[str] = set()
        self.largest = _size()

    def close(self) -> None:
        """Remove the files."""
        self.result.grown = max(0, _size() - self.largest)
        self._folder.cleanup()

    def give(self, content: bytes, name: str = "") -> None:
        """One input."""
        began, before = time.process_time(), _size()
        self.result.inputs += 1
        try:
            self.parser.call(Path(self._folder.name), content)
            self.result.accepted += 1
        except self.parser.errors as error:
            self.result.refused += 1
            if not str(error).strip():
                self._fault("an error without words", content, name)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            self._fault(f"{type(error).__name__} in {where}: {str(error)[:120]}", content, name, kind=where)
        spent = time.process_time() - began
        self.result.seconds = round(self.result.seconds + spent, 3)
        self.result.slowest = max(self.result.slowest, round(spent, 3))
        if spent > MOST_SECONDS:
            self._fault(f"{spent:.1f} s", content, name, kind="slow")
        if _size() - before > MOST_BYTES:
            self._fault(f"{(_size() - before) >> 20} MiB", content, name, kind="memory")

    def _fault(self, what: str, content: bytes, name: str, kind: str = "") -> None:
        kind = kind or what
        if kind not in self._kinds and len(self.result.faults) < _MOST_FAULTS:
            self._kinds.add(kind)
            shown = name or f"{content[:60]!r}{'…' if len(content) > 60 else ''}"
            self.result.faults.append(f"{what} — {shown} ({len(content):,} bytes)")
            keep = os.environ.get("FUZZ_KEEP")
            if keep:
                Path(keep, f"{self.parser.name}-{len(self.result.faults)}".replace("/", "_")).write_bytes(content)


def fuzz(parser: Parser, inputs: int, *, seed: int = 0) -> FuzzResult:
    """The parser's known gaps, then so many mutations by Hypothesis, half of them of the structure where it has one."""
    trial = Trial(parser, "Hypothesis")
    try:
        for content in parser.seeds:
            trial.give(content, "a valid document")
        if trial.result.refused:
            trial.result.faults.append("a valid document was refused")
        for name, content in parser.hostile.items():
            trial.give(content, name)
        kinds = [bytes_of(parser.seeds)]
        if parser.structures:
            kinds.append(documents(parser.structures, parser.dump))
        share = -(-inputs // len(kinds))
        for kind in kinds:
            configured = settings(
                max_examples=share, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip

            @configured
            @seeded(seed)
            @given(kind)
            def give(content: bytes) -> None:
                trial.give(content)

            give()
    finally:
        trial.close()
    return trial.result


def _size() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def by_atheris(parser: Parser, inputs: int) -> None:
    """The same by coverage-guided mutation; libFuzzer ends the process, so the result is printed as it comes."""
    import atheris

    trial = Trial(parser, "atheris")
    corpus = Path(tempfile.mkdtemp(prefix="corpus-", dir=_in_memory()))
    for number, content in enumerate([*parser.seeds, *map(parser.dump, parser.structures)]):
        (corpus / str(number)).write_bytes(content)

    def one(content: bytes) -> None:
        trial.give(content)
        if trial.result.inputs >= inputs:
            trial.close()
            print(record_of(trial.result), flush=True)
            for path in corpus.iterdir():
                path.unlink()
            corpus.rmdir()
            os._exit(0)

    atheris.Setup([sys.argv[0], "-max_len=20000", "-rss_limit_mb=4000", "-timeout=60", str(corpus)], one)
    atheris.Fuzz()


def record_of(result: FuzzResult) -> str:
    """As a line."""
    return _MARK + json.dumps(asdict(result))


def each_in_a_fork(parsers: Sequence[Parser], inputs: int, engine: str) -> Iterator[FuzzResult]:
    """Each parser in a process of its own, which has imported everything, one after the other."""
    for parser in parsers:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(write, 1)
            try:
                if engine == "atheris":
                    by_atheris(parser, inputs)
                print(record_of(fuzz(parser, inputs)), flush=True)
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, encoding="utf-8", errors="replace") as said:
            lines = said.read().splitlines()
        _, status = os.waitpid(pid, 0)
        yield _result(lines) or FuzzResult(
            parser=parser.name,
            engine=engine,
            faults=[f"the process ended with {os.waitstatus_to_exitcode(status)}: {' '.join(lines)[-200:]}"],
        )


def in_a_process(names: list[str], inputs: int, engine: str) -> Iterator[FuzzResult]:
    """These parsers, in a process of the engine; each result as soon as it is there."""
    only = [word for name in names for word in ("--only", name)]
    command = [sys.executable, "-m", "tests.fuzz", "--records", "--inputs", str(inputs), "--engine", engine, *only]
    missing = dict.fromkeys(names)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := _result([line]):
                missing.pop(found.parser)
                yield found
    for name in missing:
        yield FuzzResult(parser=name, engine=engine, faults=[f"its process ended with {process.returncode}"])


def _result(lines: Iterable[str]) -> FuzzResult | None:
    found = [line for line in lines if line.startswith(_MARK)]
    return FuzzResult(**json.loads(found[-1].removeprefix(_MARK))) if found else None
