"""From a transition between two releases to the commits that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.compare.transitions.cell_answer import CellAnswer, Read, answer_of
from harness.compare.transitions.commits import PARTS, Origin, lay_out_commit, origin_of
from harness.compare.transitions.find import Found, Transition, find
from harness.compare.transitions.git import Commit, Repository
from harness.compare.transitions.runner import CandidateRunner, install
from harness.compare.transitions.search_space import Candidate, CellTemplate, SearchSpace
from harness.config.matrix import Matrix
from harness.core.cells import Cell, Outcome, Release
from harness.core.errors import ReleaseError
from harness.releases import install_path
from harness.run.runner import CellRunner

UNBUILT = ("SyntaxError", "IndentationError", "TabError", "ImportError", "ModuleNotFoundError")
"""Failures of a commit that cannot be imported: it says nothing of what is searched, unless that is searched."""
DEEPEST = 4
"""How many merges are entered, one within the other."""


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """Where the answer changes: a commit, or several of which it is one."""

    commit: Commit
    """The first with the new answer."""
    base: str
    """The last with the old one; the commit's parent, unless what lies between could not be judged."""
    before: CellAnswer
    after: CellAnswer
    among: tuple[str, ...]
    """What lies between and could not be judged: then it is one of these or the commit."""
    branches: tuple[str, ...] = ()
    """The merges that were entered to come here, outermost first."""


@dataclass(frozen=True, kw_only=True)
class History:
    """What the commits between two releases gave."""

    before: Origin | None
    after: Origin | None
    culprits: tuple[Culprit, ...] = ()
    founds: tuple[Found, ...] = ()
    """Every search: along the branch of the releases, and within each merge that was entered."""
    problem: str = ""
    """Why nothing could be searched, or what is odd about what was seen."""

    @property
    def cells_run(self) -> int:
        """How many cells were run."""
        return sum(result.cells_run for result in self.founds)


@dataclass(frozen=True, kw_only=True)
class CommitBisector:
    """What the search over commits is made with."""

    repository: Repository
    runner: CellRunner
    matrix: Matrix
    """Whose settings and limits hold; its own cells and releases do not matter."""
    asked: CellTemplate
    folder: Path
    """A folder of this process alone, in which commits are laid out before they are copied into the cache."""
    read: Read = answer_of
    """What counts as an answer."""
    on_round: Callable[[Sequence[Cell]], None] = lambda _: None

    def between(self, transition: Transition) -> History:
        """The commits that made a transition between two published releases."""
        releases = transition.before.place.release, transition.after.place.release
        before, after = (self._origin(release) for release in releases)
        if before is None or after is None:
            missing = transition.after.place.label if before else transition.before.place.label
            return History(before=before, after=after, problem=f"no commit of this history states version {missing}")
        if before.commit == after.commit:
            return History(before=before, after=after, problem="both releases are nearest to the same commit")
        older, problem = self._base(before.commit, after.commit)
        if older is None:
            return History(before=before, after=after, problem=problem)
        expected = (transition.before.answer, transition.after.answer)
        chain = self.repository.first_parents(after.commit, *PARTS, base=older)
        result = self._search([older, *chain, *(() if after.commit in chain else (after.commit,))], expected)
        founds = [result]
        culprits = tuple(self._culprit(transition, expected, founds) for transition in result.transitions)
        problem = problem or _odd(result, expected)
        return History(before=before, after=after, culprits=culprits, founds=tuple(founds), problem=problem)

    def _origin(self, release: Release | None) -> Origin | None:
        if release is None or install(release, self.runner.settings.cache):
            return None
        return origin_of(self.repository, release.version, install_path(release, self.runner.settings.cache))

    def _base(self, older: str, newer: str) -> tuple[str | None, str]:
        if self.repository.is_ancestor(older, newer):
            return older, ""
        base = self.repository.merge_base(older, newer)
        if base is None:
            return None, "the two releases' commits have no history in common"
        return base, f"the newer release does not descend from the older; searched from their base {base[:12]}"

    def _search(self, commits: Sequence[str], expected: tuple[CellAnswer, CellAnswer]) -> Found:
        row = SearchSpace(asked=self.asked, places=tuple(Candidate(label=commit, cell=None) for commit in commits))
        asker = CandidateRunner(
            runner=self.runner,
            matrix=self.matrix,
            row=row,
            enter=self._enter,
            read=self.read,
            on_round=self.on_round,
            unbuildable=lambda outcome: _unbuilt(outcome, expected),
        )
        return find(row, asker, known={})

    def _enter(self, place: Candidate) -> tuple[Release, Cell] | str:
        try:
            release = lay_out_commit(self.repository, place.label, self.folder / place.label)
        except ReleaseError as error:
            return f"it cannot be installed: {error.what}" + (f" ({error.cause})" if error.cause else "")
        why_not = install(release, self.runner.settings.cache)
        return why_not or (release, self.asked.of(release.label, release.version))

    def _culprit(self, transition: Transition, expected: tuple[CellAnswer, CellAnswer], founds: list[Found]) -> Culprit:
        """The commit of a transition; where that is a merge, the one on its branch."""
        culprit = self._of(transition)
        for _ in range(DEEPEST):
            inner = self._within(culprit, expected, founds)
            if inner is None:
                break
            culprit = inner
        return culprit

    def _of(self, transition: Transition) -> Culprit:
        return Culprit(
            commit=self.repository.commit(transition.after.place.label),
            base=transition.before.place.label,
            before=transition.before.answer,
            after=transition.after.answer,
            among=tuple(place.label for place, _ in transition.passed_over),
        )

    def _within(self, merge: Culprit, expected: tuple[CellAnswer, CellAnswer], founds: list[Found]) -> Culprit | None:
        """What brought the answer on the branch that a merge took in; None where that does not show it."""
        if len(merge.commit.parents) < 2 or merge.among:
            return None
        mainline, merged = merge.commit.parents[:2]
        base = self.repository.merge_base(mainline, merged)
        chain = self.repository.first_parents(merged, *PARTS, base=base) if base else ()
        if base is None or not chain:
            return None
        result = self._search([base, *chain], expected)
        founds.append(result)
        for transition in reversed(result.transitions):
            if transition.after.answer == merge.after:
                inner = self._of(transition)
                return replace(inner, branches=(*merge.branches, merge.commit.hash))
        return None


def _unbuilt(outcome: Outcome, expected: tuple[CellAnswer, CellAnswer]) -> str:
    """Why a commit's outcome says nothing: it cannot be imported, and that is neither of the two answers."""
    failure = outcome.failure
    if failure is None or failure.type.rpartition(".")[2] not in UNBUILT or answer_of(outcome, {}) in expected:
        return ""
    return f"it cannot be imported: {failure.type}: {failure.message}"


def _odd(result: Found, expected: tuple[CellAnswer, CellAnswer]) -> str:
    """What does not fit between the releases' answers and their commits'."""
    if result.stopped:
        return "the same commit gave different answers, so that nothing could be searched"
    judged = [answer for _, answer in sorted(result.answers.items()) if answer is not None]
    if not judged:
        return "none of the commits could be judged"
    for which, release_answer, commit_answer in (("older", expected[0], judged[0]), ("newer", expected[1], judged[-1])):
        if release_answer != commit_answer:
            return f"the commit of the {which} release gives {commit_answer}, the release itself {release_answer}"
    return ""
