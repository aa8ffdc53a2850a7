"""Looking for a counter-example: so many examples, so much time, one seed, nothing kept and nothing printed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from harness.inside import failures
from harness.inside.properties.drawing import Example, own_shape, strategy
from harness.inside.properties.running import TooFewEmbeddings, Undecided, Violation
from harness.inside.properties.subject import Property, Subject

SHRINK_SECONDS = 0.6
"""For making a counter-example smaller: it is found then, and what is left only makes it easier to read."""
LEAST_EXAMPLES = 5
"""Of each property, whatever time is left: on a slow machine too the same properties fail."""
_UNDECIDED = "undecided"


class _Enough(BaseException):
    """The time is up. No `Exception`: Hypothesis would take that for a failure of the example."""


class OwnFault(Exception):
    """Something of the harness went wrong while it held an example against a property."""


@dataclass
class Findings:
    """What one property gave."""

    name: str
    status: str
    """`holds`, `fails`, `known`, `does_not_apply`, or `not_asked` where the time was spent before."""
    message: str = ""
    examples: int = 0
    """Those that decided something, before anything was found; the ones of shrinking are not among them."""
    seconds: float = 0.0
    """Of this process's own time."""
    counterexample: str = ""
    labels: tuple[int, ...] = ()


@dataclass
class _Search:
    """The examples that were held against one property, and what each gave."""

    asked: Property
    subject: Subject
    ends: float
    known: dict[str, str | None] = field(default_factory=dict)
    """By an example's key: the message of its violation, None if there is none, or `_UNDECIDED`."""
    labels: tuple[int, ...] = ()
    examples: int = 0
    found: Example | None = None
    """The example that failed last, which is the smallest."""

    def hold(self, example: Example) -> str | None:
        """What this example gives, the same each time it comes; ends the search when its time is up."""
        key = example.key
        if self._is_over():
            raise _Enough
        if key not in self.known:
            self.known[key] = self._judge(example)
        verdict = self.known[key]
        if verdict is not None and verdict != _UNDECIDED:
            self.found = example
        return verdict

    def _is_over(self) -> bool:
        enough = self.found is not None or self.examples >= LEAST_EXAMPLES
        return enough and time.process_time() > self.ends

    def _judge(self, example: Example) -> str | None:
        verdict = judge(self.asked, example, self.subject)
        if isinstance(verdict, Undecided):
            return _UNDECIDED
        if not self.found:
            self.examples += 1
        if verdict is None:
            return None
        if not self.found:
            self.ends = time.process_time() + SHRINK_SECONDS
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


def search(asked: Property, subject: Subject, *, examples: int, ends: float, seed: int) -> Findings:
    """Draw examples until one fails, the number is reached or the time is up.

    Args:
        ends: When to stop, by `time.process_time()`: a busy machine does not change what is searched.
    """
    begun = time.process_time()
    run = _Search(asked=asked, subject=subject, ends=ends)
    if asked.at_own_shape:
        own = own_shape(subject.base, asked.wish, vocab_size=subject.vocab_size, hidden_size=subject.hidden_size)
        run.hold(own)
    _draw(run, examples - run.examples, seed)
    message = run.known[run.found.key] if run.found else None
    return Findings(
        name=asked.name,
        status="fails" if message else "holds" if run.examples else "not_asked",
        message=message or "",
        examples=run.examples,
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
    except (_Enough, Violation, hypothesis.errors.Unsatisfiable, hypothesis.errors.FlakyFailure):
        # What was found is in `run`; that all examples said nothing shows in their number.
        return


def _ignore_constants_of_the_release() -> None:
    """Draw the same examples for every release: newer Hypothesis takes numbers from the sources of what is imported."""
    from hypothesis.internal.conjecture import providers

    if hasattr(providers, "_get_local_constants") and hasattr(providers, "_local_constants"):
        nothing = providers._local_constants
        providers._get_local_constants = lambda: nothing
