"""What was seen of a cell, besides times and memory, as short texts with a name each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.core.cells import Outcome
from harness.core.evidence import USER_ROWS
from harness.core.evidence.contract import ConstructEvidence, ConstructMetrics, ContractEvidence, ContractMetrics
from harness.core.evidence.imports import ImportEvidence, ImportMetrics
from harness.core.evidence.training import TrainingEvidence
from harness.core.numbers import count, mapping
from harness.report.learning import Training, named
from harness.report.training_rule import Judgement
from harness.text import units
from harness.text.plain import one_line


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that was seen, ready to be read."""

    name: str
    text: str


def facts_of(outcome: Outcome) -> tuple[Fact, ...]:
    """What a cell's metrics and evidence say, in the order in which a person wants to know it."""
    message = one_line(outcome.failure.message, at_most=2000) if outcome.failure else ""
    message_fact = Fact(name="message", text=message if message not in one_line(outcome.reason, at_most=10**6) else "")
    findings = [
        Fact(name=f"also found ({finding.code})", text=one_line(f"{finding.message} {finding.place}", at_most=1000))
        for finding in outcome.common.findings or ()
    ]
    rows = Fact(name="your rows", text=_user_rows(outcome))
    return tuple(fact for fact in (message_fact, *findings, rows, *_facts_of_check(outcome)) if fact.text)


def _facts_of_check(outcome: Outcome) -> list[Fact]:
    match outcome.common:
        case ImportEvidence() as evidence:
            return _import_facts(outcome.metrics_as(ImportMetrics) or ImportMetrics(), evidence)
        case ConstructEvidence() as evidence:
            return _construct_facts(outcome.metrics_as(ConstructMetrics) or ConstructMetrics(), evidence)
        case ContractEvidence() as evidence:
            return _contract_facts(outcome.metrics_as(ContractMetrics) or ContractMetrics(), evidence)
        case TrainingEvidence() as evidence:
            return _finetune_facts(outcome, evidence)
        case _:
            return []


def _user_rows(outcome: Outcome) -> str:
    """How many of a user's rows could be trained on and were, and why the others were not."""
    user_rows = outcome.common.user_rows
    if user_rows is None:
        return ""
    measured = mapping(outcome.metrics.get(USER_ROWS))
    arrived = count(measured.get("arrived"))
    came = "" if arrived is None else f", {arrived} reached training"
    reasons = [f"line {row.line}: {_short(row.reason)}" for row in user_rows.reasons]
    why = f". Left out: {'; '.join(reasons)}" if reasons else ""
    return one_line(
        f"{user_rows.file}: {user_rows.listed} listed, {user_rows.trainable} within the limits{came}{why}", at_most=1200
    )


def _import_facts(metrics: ImportMetrics, evidence: ImportEvidence) -> list[Fact]:
    errors = [f"{_short(error.module)}: {_short(error.error)}" for error in evidence.submodule_errors]
    return [
        Fact(name="modules imported", text=_count(metrics.modules_imported)),
        Fact(name="modules that failed", text=_count(metrics.modules_failed)),
        Fact(name="undeclared", text=", ".join(words(evidence.undeclared))),
        Fact(name="why they failed", text=one_line("; ".join(errors), at_most=1200)),
    ]


def _construct_facts(metrics: ConstructMetrics, evidence: ConstructEvidence) -> list[Fact]:
    losses = [
        f"{_short(loss.name)} = {_short(loss.type)} for {_known(loss.classes)} classes" for loss in evidence.losses
    ]
    projections = [
        f"{_short(projection.name)} {projection.in_features} → {projection.out_features}"
        for projection in evidence.projections
    ]
    return [
        Fact(name="parameters", text=_count(metrics.parameters)),
        Fact(name="by part", text=_by_part(metrics.parameters_by_group, units.count)),
        Fact(name="losses", text=", ".join(losses)),
        Fact(name="projections", text=", ".join(projections)),
    ]


def _contract_facts(metrics: ContractMetrics, evidence: ContractEvidence) -> list[Fact]:
    inputs = [
        f"{_short(entry.name)} got width {_known(entry.width)}, wants {_known(entry.classes)}"
        f" (shape {' × '.join(map(str, entry.input_shape))})"
        for entry in evidence.loss_inputs
    ]
    return [
        Fact(name="loss", text="" if metrics.loss is None else units.loss(metrics.loss)),
        Fact(name="what entered the loss", text="; ".join(inputs)),
        Fact(name="norm of the gradient", text=_by_part(metrics.gradient_norm_by_group, units.loss)),
    ]


def _finetune_facts(outcome: Outcome, evidence: TrainingEvidence) -> list[Fact]:
    trainer = {
        None: "",
        True: "the release's own recipe calls this trainer",
        False: "the release's own recipe calls another trainer",
    }
    training, judgement = Training.of(outcome.metrics), Judgement.of(evidence)
    rates = units.finite(training.learning_rates)
    norms = units.finite(training.gradient_norms)
    stats = [f"{entry.name} {_from_to(entry.values)}" for entry in training.statistics if entry.values]
    return [
        Fact(name="trainer", text=trainer[evidence.entry_is_native]),
        Fact(name="steps", text=_steps(training)),
        Fact(name="learned", text=judgement.learned),
        Fact(name="trend", text=judgement.trend),
        Fact(name="not observed", text=judgement.not_observed),
        Fact(name="invariants", text=judgement.invariants),
        Fact(name="convergence", text=judgement.convergence),
        Fact(name="losses", text=", ".join("?" if loss is None else repr(loss) for loss in training.losses)),
        Fact(name="statistics", text="; ".join(stats)),
        Fact(name="parameters changed by", text=_changes(training)),
        Fact(name="learning rate", text=_between(rates)),
        Fact(name="norm of the gradient", text=_between(norms)),
        Fact(name="trainer options", text=one_line("; ".join(words(evidence.trainer_options)), at_most=1200)),
    ]


def _steps(training: Training) -> str:
    if training.steps is None:
        return ""
    expected = training.steps_expected
    return f"{training.steps}" + (f" of {expected} expected" if expected not in (None, training.steps) else "")


def _from_to(values: Sequence[float | None]) -> str:
    return f"{units.loss(values[0])} → {units.loss(values[-1])}"


def _between(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = units.loss(min(values)), units.loss(max(values))
    return low if low == high else f"{low} – {high}"


def _changes(training: Training) -> str:
    return ", ".join(f"{entry.name} {units.share(entry.value)}" for entry in training.changes)


def _by_part(parts: Mapping[str, float] | None, write: Callable[[float | None], str]) -> str:
    return ", ".join(f"{entry.name} {write(entry.value)}" for entry in named(parts))


def _count(value: int | None) -> str:
    return "" if value is None else units.count(value)


def _known(value: int | None) -> str:
    return "?" if value is None else str(value)


def _short(text: str) -> str:
    return one_line(text, at_most=200)


def words(texts: Sequence[str]) -> tuple[str, ...]:
    """Each text on one line, cut where it is long."""
    return tuple(one_line(text, at_most=300) for text in texts)
