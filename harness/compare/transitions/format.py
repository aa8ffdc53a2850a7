"""Formats the result of a search for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.compare.transitions import search
from harness.compare.transitions.cached_outcomes import Observation
from harness.compare.transitions.commit_search import Culprit, History
from harness.compare.transitions.find import Found, Transition, TransitionSide
from harness.compare.transitions.git import Repository
from harness.text.plain import one_line, plain
from harness.text.units import plural

MOST_DIFF_LINES = 120
"""How much of a diff is printed; what is left out is said."""


def render_search(result: Found) -> Iterator[str]:
    """The whole search, line by line, without the commits."""
    row = result.row
    places = row.places
    yield f"{row.asked.name}: {_span(result, 0, len(places) - 1)}"
    if result.stopped:
        yield from _inconsistent(result)
        return
    transitions = result.transitions
    for number, transition in enumerate(transitions, 1):
        yield ""
        yield from _transition(number, transition)
    if not transitions:
        yield ""
        yield from _no_transition(result)
    yield ""
    yield from _reckoning(result)


def _span(result: Found, first: int, last: int) -> str:
    places = result.row.places
    count = last - first + 1
    if count == 1:
        return places[first].label
    return f"{places[first].label} – {places[last].label} ({count} releases)"


def _inconsistent(result: Found) -> Iterator[str]:
    yield ""
    yield "The search stopped: repeats of an end give different results, so no result between can be trusted."
    for number in result.inconsistent:
        yield f"  {result.row.places[number].label}"
        for observation in result.seen[number]:
            yield f"    {_observation(observation)}"


def _transition(number: int, transition: Transition) -> Iterator[str]:
    yield f"transition {number}: {transition.before.place.label} → {transition.after.place.label}"
    yield from _side("before", transition.before)
    yield from _side("after", transition.after)
    for place, reason in transition.passed_over:
        yield f"  skipped {place.label}: {one_line(reason)}"


def _side(word: str, side: TransitionSide) -> Iterator[str]:
    yield f"  {word:<7}{side.place.label}: {plain(str(side.answer))}, {_origins_in_words(side.observations)}"
    if side.inconsistent:
        yield "         but other results in repeats:"
        yield from (f"           {_observation(observation)}" for observation in side.observations)


def _origins_in_words(observations: Sequence[Observation]) -> str:
    origins = list(dict.fromkeys(observation.origin for observation in observations if observation.cached))
    run = sum(not observation.cached for observation in observations)
    parts = [f"cached in {', '.join(origins)}"] if origins else []
    parts += [f"run {'once' if run == 1 else 'twice' if run == 2 else f'{run} times'} now"] if run else []
    return " and ".join(parts)


def _observation(observation: Observation) -> str:
    where = f"cached in {observation.origin}" if observation.cached else "run now"
    words = str(observation.answer) if observation.answer else f"not judged: {observation.reason}"
    return f"{where} ({observation.started or 'no time'}): {one_line(words)}"


def _no_transition(result: Found) -> Iterator[str]:
    answers = [answer for answer in result.answers.values() if answer is not None]
    if not answers:
        yield "no release could be judged:"
        for number in result.passed_over:
            yield f"  {result.row.places[number].label}: {one_line(result.seen[number][0].reason)}"
        return
    yield f"no transition: {plain(str(answers[0]))} in all {len(answers)} that could be judged"


def _reckoning(result: Found) -> Iterator[str]:
    count, transitions = len(result.row.places), len(result.transitions)
    limit = f" (grid search plus bisection runs {search.bound(count, transitions)} at most)"
    yield (
        f"{plural(transitions, 'transition')}; {result.cells_run} cells run"
        f"{'' if result.exhaustive else limit}, {result.cells_cached} cached results"
    )
    if result.passed_over:
        labels = ", ".join(result.row.places[number].label for number in result.passed_over)
        yield f"skipped, because they cannot be judged: {labels}"
    inconsistent = ", ".join(result.row.places[number].label for number in result.inconsistent)
    if inconsistent:
        yield f"inconsistent (different results in repeats): {inconsistent}"
    unseen = result.unseen
    if not unseen:
        yield "Every release that can be judged was measured: there is no other transition."
        return
    segments = ", ".join(_span(result, first, last) for first, last in unseen)
    longest = max(last - first + 1 for first, last in unseen)
    yield (
        f"Not measured, because both neighbours agree: {segments}. A failure that comes and goes within one of these "
        f"(at most {longest} releases) is possible; --exhaustive measures them all."
    )


def render_history(history: History, repository: Repository, executed: Sequence[str]) -> Iterator[str]:
    """The commits of one transition.

    Args:
        history: What the commits gave.
        repository: Where they are.
        executed: The funasr files that ran in the cell, before or after; a diff is restricted to them.
    """
    for word, origin in (("before", history.before), ("after", history.after)):
        yield f"  {word:<7}commit {origin}" if origin else f"  {word:<7}no commit"
    if history.problem:
        yield f"  {history.problem}"
    for culprit in history.culprits:
        yield from _culprit(culprit, repository, executed)
    if history.founds:
        commits = sum(len(result.row.places) for result in history.founds)
        passed = sum(len(result.passed_over) for result in history.founds)
        yield f"  {history.cells_run} cells run over {commits} commits" + (
            f"; {passed} skipped, because they cannot be judged" if passed else ""
        )


def _culprit(culprit: Culprit, repository: Repository, executed: Sequence[str]) -> Iterator[str]:
    commit = culprit.commit
    yield f"  commit {commit.short} by {plain(commit.author)}, {commit.date}: {plain(commit.subject)}"
    yield from (f"    {line}" for line in plain(commit.body).splitlines() if line.strip())
    yield f"    from {plain(str(culprit.before))}"
    yield f"    to   {plain(str(culprit.after))}"
    if culprit.branches:
        yield f"    came with {', '.join(f'merge {merge[:12]}' for merge in culprit.branches)}"
    if culprit.among:
        yield f"    or one of the {len(culprit.among)} before it, which cannot be judged: {_short(culprit.among)}"
    changed = repository.changed(culprit.base, commit.hash)
    ran_in_cell = [name for name in changed if name in set(executed)]
    files = "1 file" if len(changed) == 1 else f"{len(changed)} files"
    yield f"    changes {files}, of which {len(ran_in_cell)} ran in this cell" + (":" if ran_in_cell else "")
    lines = repository.diff(culprit.base, commit.hash, ran_in_cell).splitlines()
    yield from (f"    {plain(line)}" for line in lines[:MOST_DIFF_LINES])
    if len(lines) > MOST_DIFF_LINES:
        command = f"git diff {culprit.base[:12]} {commit.short} -- {' '.join(ran_in_cell)}"
        yield f"    … {len(lines) - MOST_DIFF_LINES} more lines: {command}"


def _short(commits: Sequence[str]) -> str:
    return ", ".join(commit[:12] for commit in commits)
