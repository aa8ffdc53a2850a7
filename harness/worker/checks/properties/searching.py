"""Looking for a counter-example: so many examples, one seed, nothing kept and nothing printed.

What is searched depends on the release and the seed alone: no clock decides how many examples are drawn or how far a
counter-example is shrunk. A time limit that is met ends the search, and the findings say so.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.worker.checks.properties.drawing import Example, own_shape, strategy
from harness.worker.checks.properties.running import TooFewEmbeddings, Undecided, Violation
from harness.worker.checks.properties.subject import Property, Subject
from harness.worker.process import failures

SHRINK_EXAMPLES = 40
"""Examples that are tried to make a counter-example smaller: it is found by then, and only gets easier to read."""
_UNDECIDED = "undecided"


class _Enough(BaseException):
    """The search is over. No `Exception`: Hypothesis would take that for a failure of the example."""


class OwnFault(Exception):
    """Something of the harness went wrong while it held an example against a property."""


@dataclass
class Findings:
    """What one property gave."""

    name: str
    status: str
    """`holds`, `fails`, `known`, `does_not_apply`, or `not_asked` where no example decided anything or the search was
    stopped by the time limit."""
    message: str = ""
    examples: int = 0
    """Those that decided something, before anything was found; the ones of shrinking are not among them."""
    planned: int = 0
    """How many were to be drawn."""
    seconds: float = 0.0
    """Of this process's own time."""
    counterexample: str = ""
    labels: tuple[int, ...] = ()
    stopped: bool = False
    """Whether the time limit ended the search before anything was found."""


def never() -> bool:
    """No time limit."""
    return False


@dataclass
class _Search:
    """The examples that were held against one property, and what each gave."""

    asked: Property
    subject: Subject
    is_over: Callable[[], bool]
    known: dict[str, str | None] = field(default_factory=dict)
    """By an example's key: the message of its violation, None if there is none, or `_UNDECIDED`."""
    labels: tuple[int, ...] = ()
    examples: int = 0
    found: Example | None = None
    """The example that failed last, which is the smallest."""
    shrinking: int = 0
    """Examples that were tried since the first failed."""
    stopped: bool = False

    def hold(self, example: Example) -> str | None:
        """What this example gives, the same each time it comes; ends the search when it is over."""
        key = example.key
        if self.is_over():
            self.stopped = self.found is None
            raise _Enough
        if key not in self.known:
            if self.found and self.shrinking >= SHRINK_EXAMPLES:
                raise _Enough
            self.shrinking += self.found is not None
            self.known[key] = self._judge(example)
        verdict = self.known[key]
        if verdict is not None and verdict != _UNDECIDED:
            self.found = example
        return verdict

    def _judge(self, example: Example) -> str | None:
        verdict = judge(self.asked, example, self.subject)
        if isinstance(verdict, Undecided):
            return _UNDECIDED
        if not self.found:
            self.examples += 1
        if verdict is None:
            return None
        self.labels = tuple(getattr(verdict, "labels", ()))
        return str(verdict)


def judge(asked: Property, example: Example, subject: Subject) -> Violation | Undecided | None:
    """Hold one example against a property; what the release raises is a violation like any other.

    Raises:
        OwnFault: the harness is to blame for what was raised.
    """
    try:
        asked.holds(example, subject)
    except TooFewEmbeddings as short:
        return Violation(str(short)) if asked.about_the_predictor else short
    except (Violation, Undecided) as verdict:
        return verdict
    except Exception as error:
        if failures.status_of(error, subject.overlay) != "failed":
            raise OwnFault(f"{asked.name}: {type(error).__name__}: {error}\n{example.text}") from error
        failure = failures.describe(error, subject.overlay)
        kind, _, place = failure["signature"].partition("@")
        return Violation(f"{kind} in {place}: {failure['message'] or 'no message'}")
    return None


def search(
    asked: Property, subject: Subject, *, examples: int, seed: int, is_over: Callable[[], bool] = never
) -> Findings:
    """Draw examples until one fails or the number is reached.

    Args:
        is_over: Whether the time limit is met; then no further example is begun, and the findings are `stopped` unless
            one has failed.
    """
    begun = time.process_time()
    run = _Search(asked=asked, subject=subject, is_over=is_over)
    with contextlib.suppress(_Enough):
        if asked.at_own_shape:
            run.hold(
                own_shape(subject.base, asked.wish, vocab_size=subject.vocab_size, hidden_size=subject.hidden_size)
            )
        _draw(run, examples - run.examples, seed)
    message = run.known[run.found.key] if run.found else None
    if run.stopped:
        message = f"the time limit stopped the search after {run.examples} of {examples} examples"
    return Findings(
        name=asked.name,
        status="fails" if run.found else "holds" if run.examples and not run.stopped else "not_asked",
        message=message or "",
        examples=run.examples,
        planned=examples,
        stopped=run.stopped,
        seconds=time.process_time() - begun,
        counterexample=run.found.text if run.found else "",
        labels=run.labels,
    )


def replay(asked: Property, subject: Subject, text: str) -> Findings | None:
    """Hold a stored counter-example against the property; None if it fails no more, or is none."""
    begun = time.process_time()
    try:
        example = Example.parse(text)
    except ValueError:
        return None
    verdict = judge(asked, example, subject)
    if not isinstance(verdict, Violation):
        return None
    return Findings(
        name=asked.name,
        status="known",
        message=str(verdict),
        examples=1,
        planned=1,
        seconds=time.process_time() - begun,
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
    given: Any = hypothesis.given
    asked: Any = given(strategy(run.subject.base, run.asked.wish))(trial)
    try:
        seeded(seed)(settings(asked))()
    except (Violation, hypothesis.errors.Unsatisfiable, hypothesis.errors.FlakyFailure):
        # What was found is in `run`; that all examples said nothing shows in their number.
        return


def _ignore_constants_of_the_release() -> None:
    """Draw the same examples for every release: newer Hypothesis takes numbers from the sources of what is imported."""
    from hypothesis.internal.conjecture import providers

    if hasattr(providers, "_get_local_constants") and hasattr(providers, "_local_constants"):
        nothing = providers._local_constants
        providers._get_local_constants = lambda: nothing
