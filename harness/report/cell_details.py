"""What was seen of a cell, besides times and memory, as short texts with a name each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.cells import Check, Outcome
from harness.core.evidence import USER_ROWS
from harness.core.numbers import any_number, count, mapping
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
    reader = {
        Check.IMPORT: _import_facts,
        Check.CONSTRUCT: _construct_facts,
        Check.LOSS_CONTRACT: _contract_facts,
        Check.FINETUNE: _finetune_facts,
    }.get(outcome.cell.check, _no_facts)
    facts = reader(outcome.metrics, outcome.evidence)
    message = one_line(outcome.failure.message, at_most=2000) if outcome.failure else ""
    told = Fact(name="message", text=message if message not in one_line(outcome.reason, at_most=10**6) else "")
    found = [
        Fact(name=f"found besides ({finding.code})", text=one_line(f"{finding.message} {finding.place}", at_most=1000))
        for finding in outcome.common.findings or ()
    ]
    rows = Fact(name="your rows", text=_user_rows(outcome))
    return tuple(fact for fact in (told, *found, rows, *facts) if fact.text)


def _user_rows(outcome: Outcome) -> str:
    """How many of a user's rows could be trained on and were, and why the others were not."""
    stated, seen = (mapping(one.get(USER_ROWS)) for one in (outcome.evidence, outcome.metrics))
    if not stated:
        return ""
    listed, trainable, arrived = (
        count(one) for one in (stated.get("listed"), stated.get("trainable"), seen.get("arrived"))
    )
    came = "" if arrived is None else f", {arrived} reached training"
    reasons = [f"line {_text(one, 'line')}: {_text(one, 'reason')}" for one in _records(stated, "reasons")]
    why = f". Left out: {'; '.join(reasons)}" if reasons else ""
    return one_line(f"{stated.get('file')}: {listed} listed, {trainable} within the limits{came}{why}", at_most=1200)


def _no_facts(_metrics: Mapping[str, Any], _evidence: Mapping[str, Any]) -> list[Fact]:
    return []


def _import_facts(metrics: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Fact]:
    errors = [f"{_text(error, 'module')}: {_text(error, 'error')}" for error in _records(evidence, "submodule_errors")]
    return [
        Fact(name="modules imported", text=_count(metrics, "modules_imported")),
        Fact(name="modules that failed", text=_count(metrics, "modules_failed")),
        Fact(name="undeclared", text=", ".join(words(evidence.get("undeclared")))),
        Fact(name="why they failed", text=one_line("; ".join(errors), at_most=1200)),
    ]


def _construct_facts(metrics: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Fact]:
    losses = [
        f"{_text(loss, 'name')} = {_text(loss, 'type')} for {_text(loss, 'classes')} classes"
        for loss in _records(evidence, "losses")
    ]
    projections = [
        f"{_text(layer, 'name')} {_text(layer, 'in_features')} → {_text(layer, 'out_features')}"
        for layer in _records(evidence, "projections")
    ]
    return [
        Fact(name="parameters", text=_count(metrics, "parameters")),
        Fact(name="by part", text=_by_part(metrics.get("parameters_by_group"), units.count)),
        Fact(name="losses", text=", ".join(losses)),
        Fact(name="projections", text=", ".join(projections)),
    ]


def _contract_facts(metrics: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Fact]:
    inputs = [
        f"{_text(entry, 'name')} got width {_text(entry, 'width')}, wants {_text(entry, 'classes')}"
        f" (shape {_text(entry, 'input_shape')})"
        for entry in _records(evidence, "loss_inputs")
    ]
    loss = any_number(metrics.get("loss"))
    return [
        Fact(name="loss", text="" if loss is None else units.loss(loss)),
        Fact(name="what entered the loss", text="; ".join(inputs)),
        Fact(name="norm of the gradient", text=_by_part(metrics.get("gradient_norm_by_group"), units.loss)),
    ]


def _finetune_facts(metrics: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Fact]:
    native = evidence.get("entry_is_native")
    trainer = {
        True: "the release's own recipe calls this trainer",
        False: "the release's own recipe calls another trainer",
    }
    training, judgement = Training.of(metrics), Judgement.of(evidence)
    rates = units.finite(training.learning_rates)
    norms = units.finite(training.gradient_norms)
    stats = [f"{entry.name} {_from_to(entry.values)}" for entry in training.statistics if entry.values]
    return [
        Fact(name="trainer", text=trainer[native] if isinstance(native, bool) else ""),
        Fact(name="steps", text=_steps(training)),
        Fact(name="learned", text=judgement.learned),
        Fact(name="trend", text=judgement.trend),
        Fact(name="not observed", text=judgement.not_observed),
        Fact(name="invariants", text=judgement.invariants),
        Fact(name="convergence", text=judgement.convergence),
        Fact(name="losses", text=", ".join("?" if loss is None else repr(loss) for loss in training.losses)),
        Fact(name="statistics", text="; ".join(stats)),
        Fact(name="parameters changed by", text=_by_part(metrics.get("relative_change_by_group"), units.share)),
        Fact(name="learning rate", text=_between(rates)),
        Fact(name="norm of the gradient", text=_between(norms)),
        Fact(name="trainer options", text=one_line("; ".join(words(evidence.get("trainer_options"))), at_most=1200)),
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


def _by_part(value: Any, write: Callable[[float | None], str]) -> str:
    return ", ".join(f"{entry.name} {write(entry.value)}" for entry in named(value))


def _count(metrics: Mapping[str, Any], key: str) -> str:
    value = any_number(metrics.get(key))
    return "" if value is None else units.count(value)


def _records(evidence: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = evidence.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if isinstance(value, list | tuple):
        return " × ".join(str(item) for item in value)
    return "?" if value is None else one_line(str(value), at_most=200)


def words(value: Any) -> tuple[str, ...]:
    """A list of strings; anything else is an empty one."""
    return tuple(one_line(str(item), at_most=300) for item in value) if isinstance(value, list | tuple) else ()
