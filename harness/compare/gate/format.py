"""The result of a gate: a record, a table for the terminal, and Markdown for a comment on a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from tabulate import tabulate

from harness.compare.diagnose.diagnosis import Diagnosis
from harness.compare.diagnose.format import markdown
from harness.compare.gate.pairs import CellPair, Result
from harness.core.cells import Cell, Status
from harness.run.provenance import ReuseFacts
from harness.text.markdown import code, md, table
from harness.text.plain import one_line, plain
from harness.text.units import plural

_SIGNS = {Result.REGRESSED: "❌", Result.FIXED: "✅", Result.SAME: "➖", Result.SPURIOUS: "❔"}
_MOST_SAME = 60


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A whole gate."""

    source: str
    """The label of the source under test."""
    of: str
    """Where it comes from, in words."""
    against: str
    matrix: str
    pairs: tuple[CellPair, ...]
    diagnoses: Mapping[str, Diagnosis]
    """By the id of the source's cell."""
    notices: tuple[str, ...] = ()
    reuse: ReuseFacts | None = None
    """How reuse was checked; None where every cell was run."""

    @property
    def counts(self) -> Counter[Result]:
        """How many pairs gave what."""
        return Counter(pair.result for pair in self.pairs)

    @property
    def exit_code(self) -> int:
        """1 when something regressed, 3 when a fault of harness or machine left a cell without a result, else 0."""
        if self.counts[Result.REGRESSED]:
            return 1
        return 3 if any(pair.is_fault for pair in self.pairs) else 0

    def to_json(self) -> dict[str, object]:
        """As `gate.json` and `gate --json` have it."""
        return {
            "schema": 1,
            "source": self.source,
            "of": self.of,
            "against": self.against,
            "matrix": self.matrix,
            "counts": {str(result): self.counts[result] for result in Result},
            "reuse": asdict(self.reuse) if self.reuse else None,
            "notices": list(self.notices),
            "pairs": [
                {
                    "cell": pair.mine.cell.id,
                    "against": pair.other.cell.id,
                    "result": str(pair.result),
                    "reason": pair.reason,
                    "follows": pair.follows,
                    "reused": pair.reused,
                    "status": str(pair.mine.status),
                    "told": pair.mine.reason,
                    "against_status": str(pair.other.status),
                    "against_told": pair.other.reason,
                }
                for pair in self.pairs
            ],
            "diagnoses": {name: diagnosis.to_json() for name, diagnosis in self.diagnoses.items()},
        }


def terminal(gate: Gate) -> str:
    """What the command prints."""
    rows = [
        (str(pair.result), _question(pair.mine.cell), str(pair.other.status), str(pair.mine.status), _why(pair))
        for pair in _shown(gate.pairs)
    ]
    lines = [f"{gate.source} ({gate.of}) against {gate.against}: {_counted(gate)}"]
    if rows:
        lines += ["", tabulate(rows, headers=("", "cell", gate.against, gate.source, "why"))]
    for name, diagnosis in gate.diagnoses.items():
        explanation = diagnosis.cause or "; ".join(diagnosis.known) or "no cause is known"
        lines += ["", f"{name}", f"  {'cause' if diagnosis.cause else 'known'}: {explanation}"]
    notices = [*_reuse(gate), *gate.notices]
    lines += ["", *notices] if notices else []
    return plain("\n".join(lines))


def _reuse(gate: Gate) -> Iterator[str]:
    """What was not run, and how that was checked."""
    if gate.reuse is None:
        return
    if gate.reuse.refuted:
        yield (f"reuse was wrong for {gate.reuse.refuted[0]}: a fault of the harness. Every cell of its check was run.")
        return
    mine = sum(pair.reused for pair in gate.pairs)
    yield (
        f"{mine} of {plural(len(gate.pairs), 'cell')} of the source not run: the change reaches nothing that they use. "
        f"{_from_earlier_runs(gate.reuse.reused - mine, gate.against)}"
        f"Of both sides {gate.reuse.confirmed} drawn cells were run nevertheless and ended as predicted."
    )


def _from_earlier_runs(count: int, release: str) -> str:
    return f"{plural(count, 'cell')} of {release} taken from earlier runs. " if count else ""


def _shown(pairs: Sequence[CellPair]) -> list[CellPair]:
    """What is not the same, regressions first."""
    order = (Result.REGRESSED, Result.SPURIOUS, Result.FIXED)
    return sorted((pair for pair in pairs if pair.result in order), key=lambda pair: order.index(pair.result))


def _counted(gate: Gate) -> str:
    return ", ".join(f"{gate.counts[result]} {result}" for result in Result)


def _question(cell: Cell) -> str:
    return cell.id.partition("/")[2]


def _why(pair: CellPair) -> str:
    if pair.follows:
        return f"depends on {pair.follows.partition('/')[2]}"
    reason = (
        pair.mine.reason
        if pair.result is Result.REGRESSED
        else pair.other.reason
        if pair.result is Result.FIXED
        else ""
    )
    return one_line("; ".join(filter(None, (pair.reason, reason))), at_most=120)


def comment(gate: Gate) -> str:
    """gate.md."""
    return "\n\n".join(_comment(gate)) + "\n"


def _comment(gate: Gate) -> Iterator[str]:
    yield f"## Fine-tuning: {md(_verdict(gate))}"
    yield (
        f"{md(gate.of)}, compared with FunASR {md(gate.against)} cell by cell on one machine in one run"
        f" (matrix {code(gate.matrix)}): {md(_counted(gate))}."
    )
    shown = _shown(gate.pairs)
    if shown:
        yield _table(gate, shown)
    for name, diagnosis in gate.diagnoses.items():
        yield f"<details open><summary>Why: {code(name.partition('/')[2])}</summary>"
        yield markdown(diagnosis, level=4).strip()
        yield "</details>"
    if same := [pair for pair in gate.pairs if pair.result is Result.SAME]:
        yield f"<details><summary>{len(same)} the same</summary>"
        yield _table(gate, same[:_MOST_SAME])
        if len(same) > _MOST_SAME:
            yield f"… and {len(same) - _MOST_SAME} more in gate.json"
        yield "</details>"
    yield from (f"> {md(notice)}" for notice in (*_reuse(gate), *gate.notices))


def _verdict(gate: Gate) -> str:
    if count := gate.counts[Result.REGRESSED]:
        return f"{plural(count, 'cell')} regressed"
    if count := gate.counts[Result.FIXED]:
        return f"{plural(count, 'cell')} fixed, none regressed"
    return "nothing regressed"


def _table(gate: Gate, pairs: Sequence[CellPair]) -> str:
    rows = [
        (
            f"{_SIGNS[pair.result]} {pair.result}",
            code(_question(pair.mine.cell)),
            _word(pair.other.status),
            _word(pair.mine.status),
            md(_why(pair)),
        )
        for pair in pairs
    ]
    return table(("", "cell", md(gate.against), md(gate.source), "why"), rows)


def _word(status: Status) -> str:
    return md(status.replace("_", " "))
