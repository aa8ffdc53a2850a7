"""The record of a search: `transitions.json` and `bisect --json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from harness.compare.transitions.cached_outcomes import Observation
from harness.compare.transitions.commit_notes import CommitNote
from harness.compare.transitions.commit_search import Culprit, History
from harness.compare.transitions.find import Found, Transition, TransitionSide
from harness.compare.transitions.git import Repository

TRANSITIONS = "transitions.json"
SCHEMA = 2


def search_json(result: Found, histories: Sequence[History], timestamp: str) -> dict[str, object]:
    """What is stored of a search; `histories` in the order of the transitions, or none."""
    row = result.row
    return {
        "schema": SCHEMA,
        "cell": row.asked.name,
        "made": timestamp,
        "first": row.places[0].label,
        "last": row.places[-1].label,
        "places": len(row.places),
        "exhaustive": result.exhaustive,
        "stopped": result.stopped,
        "cells_run": result.cells_run,
        "cells_cached": result.cells_cached,
        "transitions": [
            _transition(transition, histories[number] if number < len(histories) else None)
            for number, transition in enumerate(result.transitions)
        ],
        "unseen": [[row.places[first].label, row.places[last].label] for first, last in result.unseen],
        "inconsistent": [row.places[number].label for number in result.inconsistent],
        "seen": {
            row.places[n].label: [_observation(observation) for observation in several]
            for n, several in result.seen.items()
        },
    }


def _transition(transition: Transition, history: History | None) -> dict[str, object]:
    return {
        "before": _side(transition.before),
        "after": _side(transition.after),
        "passed_over": [{"release": place.label, "reason": reason} for place, reason in transition.passed_over],
        "commits": None if history is None else _history(history),
    }


def _side(side: TransitionSide) -> dict[str, object]:
    return {"release": side.place.label, **side.answer.to_json()}


def _observation(observation: Observation) -> dict[str, object]:
    return {
        "answer": observation.answer.to_json() if observation.answer else None,
        "reason": observation.reason,
        "origin": observation.origin,
        "started": observation.started,
    }


def _history(history: History) -> dict[str, object]:
    return {
        "before": asdict(history.before) if history.before else None,
        "after": asdict(history.after) if history.after else None,
        "problem": history.problem,
        "cells_run": history.cells_run,
        "culprits": [_culprit(culprit) for culprit in history.culprits],
    }


def _culprit(culprit: Culprit) -> dict[str, object]:
    return {
        "commit": asdict(culprit.commit),
        "base": culprit.base,
        "before": culprit.before.to_json(),
        "after": culprit.after.to_json(),
        "among": list(culprit.among),
        "branches": list(culprit.branches),
    }


def commit_notes(
    question: str, transition: Transition, history: History, repository: Repository, executed: Sequence[str]
) -> tuple[CommitNote, ...]:
    """The commits of one transition, for a run's report."""
    ran = frozenset(executed)
    return tuple(
        CommitNote(
            asked=question,
            before=transition.before.place.label,
            after=transition.after.place.label,
            commit=culprit.commit.hash,
            author=culprit.commit.author,
            date=culprit.commit.date,
            subject=culprit.commit.subject,
            files=tuple(name for name in repository.changed(culprit.base, culprit.commit.hash) if name in ran),
            among=len(culprit.among),
        )
        for culprit in history.culprits
    )
