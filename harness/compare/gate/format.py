"""The result of a gate: a record, a table for the terminal, and Markdown for a comment on a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from harness.compare.diagnose.diagnosis import Diagnosis
from harness.compare.diagnose.format import markdown
from harness.compare.gate.pairs import CellPair, Result
from harness.core.cells import Cell, Status
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

    @property
    def counts(self) -> Counter[Result]:
        """How many pairs gave what."""
        return Counter(one.result for one in self.pairs)

    @property
    def exit_code(self) -> int:
        """1 when something regressed, 3 when a fault of harness or machine left a cell without a result, else 0."""
        if self.counts[Result.REGRESSED]:
            return 1
        return 3 if any(one.is_fault for one in self.pairs) else 0

    def to_json(self) -> dict[str, object]:
        """As `gate.json` and `gate --json` have it."""
        return {
            "schema": 1,
            "source": self.source,
            "of": self.of,
            "against": self.against,
            "matrix": self.matrix,
            "counts": {str(result): self.counts[result] for result in Result},
            "notices": list(self.notices),
            "pairs": [
                {
                    "cell": one.mine.cell.id,
                    "against": one.other.cell.id,
                    "result": str(one.result),
                    "reason": one.reason,
                    "follows": one.follows,
                    "status": str(one.mine.status),
                    "told": one.mine.reason,
                    "against_status": str(one.other.status),
                    "against_told": one.other.reason,
                }
                for one in self.pairs
            ],
            "diagnoses": {name: one.to_json() for name, one in self.diagnoses.items()},
        }


def terminal(gate: Gate) -> str:
    """What the command prints."""
    rows = [
        (str(one.result), _question(one.mine.cell), str(one.other.status), str(one.mine.status), _why(one))
        for one in _shown(gate.pairs)
    ]
    lines = [f"{gate.source} ({gate.of}) against {gate.against}: {_counted(gate)}"]
    if rows:
        lines += ["", tabulate(rows, headers=("", "cell", gate.against, gate.source, "why"))]
    for name, one in gate.diagnoses.items():
        told = one.cause or "; ".join(one.known) or "no cause is known"
        lines += ["", f"{name}", f"  {'cause' if one.cause else 'known'}: {told}"]
    lines += ["", *gate.notices] if gate.notices else []
    return plain("\n".join(lines))


def _shown(pairs: Sequence[CellPair]) -> list[CellPair]:
    """What is not the same, regressions first."""
    order = (Result.REGRESSED, Result.SPURIOUS, Result.FIXED)
    return sorted((one for one in pairs if one.result in order), key=lambda one: order.index(one.result))


def _counted(gate: Gate) -> str:
    return ", ".join(f"{gate.counts[result]} {result}" for result in Result)


def _question(cell: Cell) -> str:
    return cell.id.partition("/")[2]


def _why(one: CellPair) -> str:
    if one.follows:
        return f"depends on {one.follows.partition('/')[2]}"
    told = one.mine.reason if one.result is Result.REGRESSED else one.other.reason if one.result is Result.FIXED else ""
    return one_line("; ".join(filter(None, (one.reason, told))), at_most=120)


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
    for name, one in gate.diagnoses.items():
        yield f"<details open><summary>Why: {code(name.partition('/')[2])}</summary>"
        yield markdown(one, level=4).strip()
        yield "</details>"
    if same := [one for one in gate.pairs if one.result is Result.SAME]:
        yield f"<details><summary>{len(same)} the same</summary>"
        yield _table(gate, same[:_MOST_SAME])
        if len(same) > _MOST_SAME:
            yield f"… and {len(same) - _MOST_SAME} more in gate.json"
        yield "</details>"
    yield from (f"> {md(notice)}" for notice in gate.notices)


def _verdict(gate: Gate) -> str:
    if count := gate.counts[Result.REGRESSED]:
        return f"{plural(count, 'cell')} regressed"
    if count := gate.counts[Result.FIXED]:
        return f"{plural(count, 'cell')} fixed, none regressed"
    return "nothing regressed"


def _table(gate: Gate, pairs: Sequence[CellPair]) -> str:
    rows = [
        (
            f"{_SIGNS[one.result]} {one.result}",
            code(_question(one.mine.cell)),
            _word(one.other.status),
            _word(one.mine.status),
            md(_why(one)),
        )
        for one in pairs
    ]
    return table(("", "cell", md(gate.against), md(gate.source), "why"), rows)


def _word(status: Status) -> str:
    return md(status.replace("_", " "))
