"""Searching for a counter-example: a number of examples and one seed; nothing is stored or printed.

Which examples are searched depends on the release and the seed alone: no clock decides how many are drawn or how far a
counter-example is shrunk. A time limit ends the search, and the findings say so.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.worker.checks.properties.examples import Example, own_dimensions, strategy
from harness.worker.checks.properties.property import ModelUnderTest, Property, TooFewEmbeddings, Undecided, Violation
from harness.worker.process import failures
from harness.worker.release import findings

SHRINK_EXAMPLES = 40
"""Examples for shrinking a counter-example, which only makes it easier to read."""
_UNDECIDED = "undecided"


class _SearchOver(BaseException):
    """Ends the search. Not an `Exception`: Hypothesis would treat that as a failure of the example."""


class HarnessFault(Exception):
    """The harness itself failed while it evaluated an example."""


@dataclass
class Findings:
    """The result of one property."""

    name: str
    status: str
    """`holds`, `fails`, `known`, `does_not_apply`; `not_tested` if no example decided anything or the time limit
    stopped the search."""
    message: str = ""
    examples: int = 0
    """Examples that decided something before a failure was found; without those of shrinking."""
    planned: int = 0
    """Planned number of examples."""
    seconds: float = 0.0
    """CPU time of this process."""
    counterexample: str = ""
    labels: tuple[int, ...] = ()
    stopped: bool = False
    """Whether the time limit ended the search before a failure was found."""


def never() -> bool:
    """No time limit."""
    return False


@dataclass
class _Search:
    """The evaluated examples of one property, and their results."""

    prop: Property
    tested: ModelUnderTest
    is_over: Callable[[], bool]
    known: dict[str, str | None] = field(default_factory=dict)
    """By an example's key: the message of its violation, None if there is none, or `_UNDECIDED`."""
    labels: tuple[int, ...] = ()
    examples: int = 0
    found: Example | None = None
    """The last example that failed, which is the smallest."""
    shrinking: int = 0
    """Examples evaluated since the first failure."""
    stopped: bool = False

    def hold(self, example: Example) -> str | None:
        """The result of an example, cached by its key; raises `_SearchOver` when the search is over."""
        key = example.key
        if self.is_over():
            self.stopped = self.found is None
            raise _SearchOver
        if key not in self.known:
            if self.found and self.shrinking >= SHRINK_EXAMPLES:
                raise _SearchOver
            self.shrinking += self.found is not None
            self.known[key] = self._judge(example)
        verdict = self.known[key]
        if verdict is not None and verdict != _UNDECIDED:
            self.found = example
        return verdict

    def _judge(self, example: Example) -> str | None:
        verdict = evaluate(self.prop, example, self.tested)
        if isinstance(verdict, Undecided):
            return _UNDECIDED
        if not self.found:
            self.examples += 1
        if verdict is None:
            return None
        self.labels = tuple(getattr(verdict, "labels", ()))
        return str(verdict)


def evaluate(prop: Property, example: Example, tested: ModelUnderTest) -> Violation | Undecided | None:
    """Evaluate a property for one example; an exception of the release is a violation.

    Raises:
        HarnessFault: the harness caused the exception.
    """
    try:
        prop.holds(example, tested)
    except TooFewEmbeddings as short:
        return Violation(str(short)) if prop.about_the_predictor else short
    except (Violation, Undecided) as verdict:
        return verdict
    except Exception as error:
        if failures.status_of(error, tested.install_dir) != "failed":
            raise HarnessFault(f"{prop.name}: {type(error).__name__}: {error}\n{example.text}") from error
        return Violation(findings.reason_of(failures.describe(error, tested.install_dir)))
    return None


def search(
    prop: Property, tested: ModelUnderTest, *, examples: int, seed: int, is_over: Callable[[], bool] = never
) -> Findings:
    """Draw examples until one fails or their number is reached.

    Args:
        is_over: Whether the time limit is reached; then no further example starts, and the findings are `stopped`
            unless an example has failed.
    """
    started = time.process_time()
    run = _Search(prop=prop, tested=tested, is_over=is_over)
    with contextlib.suppress(_SearchOver):
        if prop.at_own_dimensions:
            run.hold(
                own_dimensions(tested.base, prop.spec, vocab_size=tested.vocab_size, hidden_size=tested.hidden_size)
            )
        _draw(run, examples - run.examples, seed)
    message = run.known[run.found.key] if run.found else None
    if run.stopped:
        message = f"the time limit stopped the search after {run.examples} of {examples} examples"
    return Findings(
        name=prop.name,
        status="fails" if run.found else "holds" if run.examples and not run.stopped else "not_tested",
        message=message or "",
        examples=run.examples,
        planned=examples,
        stopped=run.stopped,
        seconds=time.process_time() - started,
        counterexample=run.found.text if run.found else "",
        labels=run.labels,
    )


def replay(prop: Property, tested: ModelUnderTest, text: str) -> Findings | None:
    """Evaluate a saved counter-example; None if it does not fail any more, or cannot be read."""
    started = time.process_time()
    try:
        example = Example.parse(text)
    except ValueError:
        return None
    verdict = evaluate(prop, example, tested)
    if not isinstance(verdict, Violation):
        return None
    return Findings(
        name=prop.name,
        status="known",
        message=str(verdict),
        examples=1,
        planned=1,
        seconds=time.process_time() - started,
        counterexample=text,
        labels=tuple(getattr(verdict, "labels", ())),
    )


def _draw(run: _Search, examples: int, seed: int) -> None:
    import hypothesis

    def trial(example: Example) -> None:
        verdict = run.hold(example)
        if verdict == _UNDECIDED:
            hypothesis.reject()
        if verdict is not None:
            raise Violation(verdict)

    if examples <= 0:
        return
    _ignore_constants_of_the_release()
    settings: Any = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    seeded: Any = hypothesis.seed
    with_examples: Any = hypothesis.given
    wrapped: Any = with_examples(strategy(run.tested.base, run.prop.spec))(trial)
    try:
        seeded(seed)(settings(wrapped))()
    except (Violation, hypothesis.errors.Unsatisfiable, hypothesis.errors.FlakyFailure):
        # The result is in `run`; if no example decided anything, their number is 0.
        return


def _ignore_constants_of_the_release() -> None:
    """Draw the same examples for every release: newer Hypothesis collects constants from imported sources."""
    from hypothesis.internal.conjecture import providers

    if hasattr(providers, "_get_local_constants") and hasattr(providers, "_local_constants"):
        nothing = providers._local_constants
        providers._get_local_constants = lambda: nothing
