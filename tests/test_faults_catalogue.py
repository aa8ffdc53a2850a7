"""The catalogue of planted faults: whole, plantable, and as reports/planted_faults.md has it; and its scores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults import cells, inject, score, written
from faults.__main__ import PAGE, _parser
from faults.catalogue import FAULTS
from faults.configurations import CONFIGURATIONS, VARIANTS, Configuration
from faults.inject import AnchorError
from faults.measure import Power
from faults.records import SOUND, Edit, Expected, Family, Fault
from faults.score import Sight

from harness.core.cells import Cell, Check, Entry, Failure, Outcome, Release, Severity, Status
from harness.releases.cache import install_path
from harness.rules.known_issues import KnownIssues
from harness.variants.architecture import look_up
from harness.variants.catalogue import load_variant

NAMES = [fault.name for fault in FAULTS]


def a_release(label: str = SOUND) -> Release:
    return Release(label=label, version=SOUND, kind="wheel", filename=f"funasr-{SOUND}.whl", sha256="0" * 64)


def a_fault(**others: Any) -> Fault:
    values: dict[str, Any] = {
        "name": "a-fault",
        "family": Family.MASK,
        "title": "Something is wrong.",
        "edits": (Edit(files=("models/model.py",), old="right", new="wrong"),),
        "expected": Expected(check=Check.LOSS_CONTRACT, signature="Wrong@*"),
    }
    return Fault(**{**values, **others})


def test_there_are_at_least_forty_faults_and_each_has_its_own_name() -> None:
    assert len(FAULTS) >= 40
    assert [name for name, times in Counter(NAMES).items() if times > 1] == []
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in NAMES)


def test_every_family_has_a_fault() -> None:
    assert set(Family) == {fault.family for fault in FAULTS}


def test_both_trainers_have_faults() -> None:
    entries = Counter(fault.entry for fault in FAULTS if fault.expected.check in (Check.FINETUNE, Check.CHECKPOINT))
    assert min(entries[entry] for entry in Entry) >= 5


@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
def test_a_fault_is_planted_by_edits_or_is_a_command_line(fault: Fault) -> None:
    assert bool(fault.edits) != bool(fault.command)
    assert (fault.expected.check is None) == bool(fault.command)
    assert fault.title.endswith(".")
    if fault.edits:
        assert fault.checks[-1] is fault.expected.check
        assert fault.expected.check is Check.CONSTRUCT or Check.CONSTRUCT in fault.checks


@pytest.mark.release
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.edits], ids=lambda fault: fault.name)
def test_a_fault_can_be_planted_in_the_sound_release(fault: Fault, layout: Callable[[str], Path]) -> None:
    package = layout(SOUND) / "funasr"
    texts = inject.patched(package, fault)
    assert set(texts) == set(fault.files)
    for name, text in texts.items():
        compile(text, name, "exec")
        assert text != (package / name).read_text("utf-8")


@pytest.mark.release
def test_what_is_shipped_twice_is_the_same_in_both_files(layout: Callable[[str], Path]) -> None:
    package = layout(SOUND) / "funasr"
    for files in {edit.files for fault in FAULTS for edit in fault.edits if len(edit.files) > 1}:
        assert len({(package / name).read_text("utf-8") for name in files}) == 1


def test_the_committed_table_has_the_catalogue_as_it_is() -> None:
    text = PAGE.read_text("utf-8")
    assert text == written.with_table(text, FAULTS), "write it anew: python -m tests.faults table"


TEXT = "def first():\n    return right\n\ndef second():\n    return right\n"


def test_a_place_that_is_there_once_is_changed() -> None:
    edit = Edit(files=("a.py",), old="first", new="third")
    assert inject.changed(TEXT, edit) == TEXT.replace("first", "third")


def test_a_place_below_another_is_changed_there_only() -> None:
    edit = Edit(files=("a.py",), old="right", new="wrong", below="def second")
    assert inject.changed(TEXT, edit).split("\n")[1::3] == ["    return right", "    return wrong"]


@pytest.mark.parametrize(
    ("old", "below", "told"),
    [
        ("right", "", "2 times"),
        ("left", "", "0 times"),
        ("right", "def third", "0 times"),
        ("right", "return", "2 times"),
        ("first", "def second", "does not stand below"),
    ],
)
def test_a_place_that_is_not_there_or_not_unique_is_refused(old: str, below: str, told: str) -> None:
    with pytest.raises(AnchorError, match=told):
        inject.changed(TEXT, Edit(files=("a.py",), old=old, new="new", below=below))


def lay_out(cache: Path) -> Release:
    release = a_release()
    package = install_path(release, cache) / "funasr"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("", "utf-8")
    (package / "models/model.py").write_text("value = 'right'\n", "utf-8")
    return release


def test_a_copy_has_the_fault_and_the_sound_release_has_not(tmp_path: Path) -> None:
    sound = lay_out(tmp_path)
    planted = inject.plant(a_fault(), sound, tmp_path)
    place = install_path(planted, tmp_path) / "funasr"
    assert planted.label == f"{SOUND}+fault.a-fault"
    assert (place / "models/model.py").read_text("utf-8") == "value = 'wrong'\n"
    origin = install_path(sound, tmp_path) / "funasr"
    assert (origin / "models/model.py").read_text("utf-8") == "value = 'right'\n"
    assert (place / "__init__.py").samefile(origin / "__init__.py")


def test_a_changed_fault_gets_a_copy_of_its_own_and_the_old_one_is_cleared(tmp_path: Path) -> None:
    sound = lay_out(tmp_path)
    old = inject.plant(a_fault(), sound, tmp_path)
    edits = (replace(a_fault().edits[0], new="worse"),)
    new = inject.plant(a_fault(edits=edits), sound, tmp_path)
    assert install_path(old, tmp_path) != install_path(new, tmp_path)
    inject.clear([new], tmp_path)
    assert not install_path(old, tmp_path).exists()
    assert install_path(new, tmp_path).exists()
    assert install_path(sound, tmp_path).exists()


def test_two_edits_of_one_file_are_both_made(tmp_path: Path) -> None:
    sound = lay_out(tmp_path)
    edits = (a_fault().edits[0], Edit(files=("models/model.py",), old="value", new="other"))
    planted = inject.plant(a_fault(edits=edits), sound, tmp_path)
    text = (install_path(planted, tmp_path) / "funasr/models/model.py").read_text("utf-8")
    assert text == "other = 'wrong'\n"


def test_what_cannot_be_planted_leaves_nothing(tmp_path: Path) -> None:
    sound = lay_out(tmp_path)
    edits = (replace(a_fault().edits[0], old="absent"),)
    with pytest.raises(AnchorError, match=r"a-fault: models/model\.py"):
        inject.plant(a_fault(edits=edits), sound, tmp_path)
    assert [place.name for place in (tmp_path / "releases").iterdir()] == [install_path(sound, tmp_path).name]


def test_a_fault_of_the_trainer_is_not_asked_for_the_models_properties() -> None:
    edits = (Edit(files=("train_utils/trainer.py",), old="a", new="b"),)
    fault = a_fault(edits=edits, expected=Expected(check=Check.FINETUNE))
    assert fault.checks == (Check.CONSTRUCT, Check.LOSS_CONTRACT, Check.FINETUNE)


def test_a_fault_of_the_model_is() -> None:
    assert Check.PROPERTIES in a_fault(expected=Expected(check=Check.FINETUNE)).checks


def test_what_resumes_was_trained_before_and_decoding_trains_for_itself() -> None:
    edits = (Edit(files=("tokenizer/abs_tokenizer.py",), old="a", new="b"),)
    below = (Check.CONSTRUCT, Check.LOSS_CONTRACT, Check.DATA)
    assert a_fault(edits=edits, expected=Expected(check=Check.CHECKPOINT)).checks == (
        *below,
        Check.FINETUNE,
        Check.CHECKPOINT,
    )
    assert a_fault(edits=edits, expected=Expected(check=Check.DECODE)).checks == (*below, Check.DECODE)


def test_no_check_after_the_expected_one_is_run() -> None:
    assert a_fault(expected=Expected(check=Check.CONSTRUCT)).checks == (Check.CONSTRUCT,)


def a_scheme() -> cells.Scheme:
    plain = Edit(files=("train_utils/trainer.py",), old="a", new="b")
    trained = a_fault(
        name="plain",
        edits=(plain,),
        expected=Expected(check=Check.FINETUNE),
        entry=Entry.TRAIN,
        variant="paraformer",
    )
    repeats = {Check.CONSTRUCT: 3, Check.FINETUNE: 1}
    return cells.Scheme(sound=a_release(), faults=(a_fault(), trained), repeats=repeats)


def test_each_fault_the_sound_release_and_each_repeat_has_its_cells(tmp_path: Path) -> None:
    matrix = a_scheme().matrix(tmp_path / "power.toml")
    found = Counter((cell.release, str(cell.check), str(cell.entry or "")) for cell in matrix.cells)
    train, native = str(Entry.TRAIN), str(Entry.TRAIN_DS)
    assert found == {
        (f"{SOUND}+fault.a-fault", "construct", ""): 1,
        (f"{SOUND}+fault.a-fault", "loss_contract", ""): 1,
        (f"{SOUND}+fault.plain", "construct", ""): 1,
        (f"{SOUND}+fault.plain", "loss_contract", ""): 1,
        (f"{SOUND}+fault.plain", "finetune", train): 1,
        (SOUND, "construct", ""): 2,
        (SOUND, "loss_contract", ""): 2,
        (SOUND, "finetune", train): 1,
        (f"{SOUND}+repeat.1", "construct", ""): 2,
        (f"{SOUND}+repeat.1", "finetune", native): 2,
        (f"{SOUND}+repeat.2", "construct", ""): 2,
        (f"{SOUND}+repeat.3", "construct", ""): 2,
    }


def test_the_whole_catalogue_is_a_matrix_that_the_harness_reads(tmp_path: Path) -> None:
    scheme = cells.Scheme(sound=a_release(), faults=FAULTS, repeats=cells.REPEATS)
    matrix = scheme.matrix(tmp_path / "power.toml")
    asked = {cell.release for cell in matrix.cells}
    assert asked == {SOUND, *scheme.faulty(), *scheme.repeated()}
    assert max(cells.REPEATS.values()) == len(scheme.repeated()) >= 50


def test_at_least_sixty_sound_cells_have_a_configuration_other_than_the_default(tmp_path: Path) -> None:
    configurations = tuple(CONFIGURATIONS.values())
    scheme = cells.Scheme(sound=a_release(), faults=(), repeats={Check.CONSTRUCT: 1}, configurations=configurations)
    matrix = scheme.matrix(tmp_path / "power.toml")
    changed = [cell for cell in matrix.cells if cell.variant not in VARIANTS]
    assert {str(cell.release) for cell in changed} == {SOUND}
    assert len(changed) >= 60
    assert len(changed) + 2 * sum(cells.REPEATS.values()) >= 300


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_configuration_is_a_variant_that_differs_in_what_it_says(tmp_path: Path, variant: str, name: str) -> None:
    one = CONFIGURATIONS[name]
    plain, changed = load_variant(variant), load_variant(str(one.written(variant, tmp_path)))
    assert changed.name == f"{variant}-{name}"
    assert dict(changed.training) == {**plain.training, **one.training}
    for path, value in one.config.items():
        assert look_up(changed.config, path) == value != look_up(plain.config, path)
    assert {path: dict(changed.reduced)[path] for path in one.reduced} == dict(one.reduced)
    assert one.training or one.config or one.reduced


def test_a_setting_that_the_config_does_not_have_is_refused(tmp_path: Path) -> None:
    one = Configuration(name="odd", title="Odd.", config={"model_conf.lsm_wait": 0.0})
    with pytest.raises(KeyError, match="lsm_wait"):
        one.written("paraformer", tmp_path)


def test_a_fault_under_a_configuration_is_asked_in_it_and_so_is_the_sound_release(tmp_path: Path) -> None:
    fault = a_fault(configuration="adamw", expected=Expected(check=Check.CONSTRUCT))
    matrix = cells.Scheme(sound=a_release(), faults=(fault,), repeats={}).matrix(tmp_path / "power.toml")
    asked = {(cell.release, cell.variant) for cell in matrix.cells}
    variant = "paraformer_streaming-adamw"
    assert asked == {(SOUND, variant), (f"{SOUND}+fault.a-fault", variant)}


def test_every_configuration_that_a_fault_names_is_there() -> None:
    assert {fault.configuration for fault in FAULTS if fault.configuration} <= set(CONFIGURATIONS)


def test_a_repeat_lies_where_the_sound_release_lies_and_has_its_own_seed() -> None:
    class Prepared:
        def release_for(self, label: str) -> dict[str, Any]:
            return {"label": label, "install_dir": f"layout of {label}"}

        def request_for(self, cell: Cell) -> dict[str, Any]:
            return {"release": self.release_for(cell.release), "seed": 7, "settings": {"seed": 7, "examples": 9}}

    prepared: Any = Prepared()
    requests = cells.RepeatedRequests(prepared=prepared, scheme=a_scheme())
    again = requests.request_for(a_cell(f"{SOUND}+repeat.2"))
    assert (
        again["release"]["install_dir"]
        == requests.release_for(f"{SOUND}+repeat.2")["install_dir"]
        == f"layout of {SOUND}"
    )
    assert (again["seed"], again["settings"]) == (9, {"seed": 9, "examples": 9})
    faulty = requests.request_for(a_cell(f"{SOUND}+fault.a-fault"))
    assert faulty["release"]["install_dir"] == f"layout of {SOUND}+fault.a-fault"
    assert faulty["seed"] == 7


def a_cell(release: str, check: Check = Check.CONSTRUCT) -> Cell:
    return Cell.parse(f"{release}/paraformer_streaming/v1200-h64/reduced/{check}/cpu-fp32")


def an_outcome(check: Check, status: Status, signature: str = "", release: str = "faulty") -> Outcome:
    failure = Failure(type="Wrong", message="it is wrong", signature=signature) if signature else None
    reason = "" if status is Status.PASSED else "because"
    return Outcome(cell=a_cell(release, check), status=status, reason=reason, failure=failure, seconds=2.0)


def sight(
    *outcomes: Outcome, sound: Mapping[Check, Outcome] | None = None, fault: Fault | None = None
) -> tuple[Sight, Check | None]:
    by_question = {score.question(a_cell(SOUND, check)): outcome for check, outcome in (sound or {}).items()}
    seen = score.sight_of(fault or a_fault(), {outcome.cell: outcome for outcome in outcomes}, by_question)
    assert seen.seconds == 2.0 * len(outcomes)
    return seen.sight, seen.check


PASSED = an_outcome(Check.CONSTRUCT, Status.PASSED)
FAILED = Status.FAILED


def test_the_expected_check_status_and_signature_are_a_catch() -> None:
    found = sight(PASSED, an_outcome(Check.LOSS_CONTRACT, FAILED, "Wrong@model"))
    assert found == (Sight.CAUGHT, Check.LOSS_CONTRACT)


def test_an_earlier_check_catches_early_whatever_it_says() -> None:
    blocked = an_outcome(Check.LOSS_CONTRACT, Status.BLOCKED)
    found = sight(blocked, an_outcome(Check.CONSTRUCT, Status.CRASHED))
    assert found == (Sight.EARLY, Check.CONSTRUCT)


@pytest.mark.parametrize(
    ("status", "signature"),
    [(FAILED, "Other@model"), (FAILED, ""), (Status.CRASHED, "Wrong@model"), (Status.TIMED_OUT, "")],
)
def test_another_status_or_signature_is_wrong(status: Status, signature: str) -> None:
    found = sight(PASSED, an_outcome(Check.LOSS_CONTRACT, status, signature))
    assert found == (Sight.WRONG, Check.LOSS_CONTRACT)


@pytest.mark.parametrize("status", [Status.ERRORED, Status.BLOCKED])
def test_a_check_that_could_not_run_is_no_catch(status: Status) -> None:
    assert sight(PASSED, an_outcome(Check.LOSS_CONTRACT, status))[0] is Sight.WRONG


def test_a_check_that_is_missing_is_no_catch() -> None:
    assert sight(PASSED)[0] is Sight.WRONG
    assert sight()[0] is Sight.WRONG


@pytest.mark.parametrize("status", [Status.PASSED, Status.SKIPPED])
def test_a_fault_that_nothing_speaks_of_has_escaped(status: Status) -> None:
    assert sight(PASSED, an_outcome(Check.LOSS_CONTRACT, status)) == (Sight.ESCAPED, None)


def test_what_the_sound_release_says_of_itself_is_no_sign_of_the_fault() -> None:
    own = an_outcome(Check.LOSS_CONTRACT, FAILED, "Wrong@model", release=SOUND)
    same = an_outcome(Check.LOSS_CONTRACT, FAILED, "Wrong@model")
    more = an_outcome(Check.LOSS_CONTRACT, FAILED, "Wrong@model+encoder")
    sound = {Check.LOSS_CONTRACT: own}
    assert sight(PASSED, same, sound=sound) == (Sight.ESCAPED, None)
    assert sight(PASSED, more, sound=sound) == (Sight.CAUGHT, Check.LOSS_CONTRACT)


def test_a_skipped_cell_is_seen_where_skipping_is_what_must_result() -> None:
    fault = a_fault(expected=Expected(check=Check.CONSTRUCT, status=Status.SKIPPED))
    assert sight(an_outcome(Check.CONSTRUCT, Status.SKIPPED), fault=fault) == (Sight.CAUGHT, Check.CONSTRUCT)
    assert sight(an_outcome(Check.CONSTRUCT, Status.PASSED), fault=fault) == (Sight.ESCAPED, None)


def test_the_share_counts_early_catches_and_no_others() -> None:
    seen = [score.Seen(fault=a_fault(), sight=one) for one in Sight]
    assert score.share(seen) == 0.5
    assert score.share([]) == 0.0


BROKEN, WRONG, MINOR = Severity


@pytest.mark.parametrize(
    ("expected", "right"),
    [
        (Expected(check=Check.LOSS_CONTRACT), {BROKEN}),
        (Expected(check=Check.LOSS_CONTRACT, severity=WRONG), {WRONG}),
        (Expected(check=Check.FINETUNE), {WRONG}),
        (Expected(check=Check.FINETUNE, or_graver=True), {BROKEN, WRONG}),
        (Expected(check=Check.FINETUNE, severity=MINOR), {MINOR}),
        (Expected(check=Check.PROPERTIES), {BROKEN, WRONG}),
        (Expected(check=Check.CONSTRUCT, status=Status.SKIPPED), {None}),
        (Expected(check=None), {None}),
    ],
)
def test_a_severity_is_right_or_is_not(expected: Expected, right: set[Severity | None]) -> None:
    assert {severity for severity in (BROKEN, WRONG, MINOR, None) if expected.accepts(severity)} == right


def graded(fault: Fault, *outcomes: Outcome, sound: Mapping[Check, Outcome] | None = None) -> tuple[Any, bool]:
    by_question = {score.question(a_cell(SOUND, check)): outcome for check, outcome in (sound or {}).items()}
    seen = score.sight_of(fault, {outcome.cell: outcome for outcome in outcomes}, by_question)
    return seen.severity, seen.graded


def test_a_fault_is_as_grave_as_the_gravest_of_what_it_shows_and_the_sound_release_does_not() -> None:
    fault = a_fault(expected=Expected(check=Check.PROPERTIES))
    own = an_outcome(Check.PROPERTIES, FAILED, "PropertyFails@lengths_agree", release=SOUND)
    more = an_outcome(Check.PROPERTIES, FAILED, "PropertyFails@lengths_agree+evaluation_draws_nothing")
    assert graded(fault, PASSED, more) == (BROKEN, True)
    assert graded(fault, PASSED, more, sound={Check.PROPERTIES: own}) == (MINOR, False)


def test_what_was_caught_and_called_too_mild_or_too_grave_does_not_count_as_graded() -> None:
    caught = an_outcome(Check.LOSS_CONTRACT, FAILED, "Wrong@model")
    assert graded(a_fault(), PASSED, caught) == (BROKEN, True)
    milder = a_fault(expected=Expected(check=Check.LOSS_CONTRACT, signature="Wrong@*", severity=WRONG))
    assert graded(milder, PASSED, caught) == (BROKEN, False)
    seen = score.Seen(fault=milder, sight=Sight.CAUGHT, severity=BROKEN)
    assert (score.share([seen]), score.share_graded([seen]), score.share_graded([])) == (1.0, 0.0, 0.0)


def test_failures_that_nothing_explains_are_accusations() -> None:
    outcomes = [
        an_outcome(Check.CONSTRUCT, Status.PASSED, release=SOUND),
        an_outcome(Check.CONSTRUCT, FAILED, "Wrong@model", release=f"{SOUND}+repeat.1"),
        an_outcome(Check.CONSTRUCT, Status.ERRORED, release=f"{SOUND}+repeat.2"),
        an_outcome(Check.CONSTRUCT, Status.TIMED_OUT, release=f"{SOUND}+repeat.3"),
    ]
    found = score.soundness(outcomes, KnownIssues())
    assert found.repeats == {"construct": 4}
    assert [one.outcome.status for one in found.accused] == [FAILED, Status.TIMED_OUT]
    assert [one.outcome.status for one in found.unmeasured] == [Status.ERRORED]


def a_power() -> Power:
    seen = (
        score.Seen(
            fault=a_fault(),
            sight=Sight.CAUGHT,
            check=Check.LOSS_CONTRACT,
            status="failed",
            signature="A@b",
            severity=Severity.BROKEN,
        ),
        score.Seen(fault=a_fault(name="gone"), sight=Sight.ESCAPED, reason="nobody | saw it"),
    )
    accusing = an_outcome(Check.CONSTRUCT, FAILED, "Wrong@model", release=SOUND)
    return Power(seen=seen, soundness=score.soundness([accusing], KnownIssues()), seconds=3.0)


def test_the_figures_are_reported_in_a_sentence_each() -> None:
    assert written.headlines(a_power()) == [
        "1 of 2 planted faults caught (50.0 %; asked: 95 %): 1 caught, 1 escaped.",
        "1 of them with the right severity (50.0 %; asked: 95 %).",
        "1 false accusations in 1 cells of the sound release, 0 of them in configurations other than the default: "
        "1 construct.",
    ]


def test_the_reports_name_what_escaped_and_what_was_accused(tmp_path: Path) -> None:
    _, page = written.write(a_power(), tmp_path / "reports")
    text = page.read_text("utf-8")
    assert "## Falsely accused" in text
    assert "## Not caught" in text
    assert "nobody &#124; saw it" in text
    rows = [line for line in text.splitlines() if line.startswith("| <code>")]
    assert [row.split("</code>")[0] for row in rows] == ["| <code>gone", "| <code>a-fault"]


def test_the_figures_are_json() -> None:
    data = written.as_json(a_power())
    assert (data["faults"], data["share_caught"], len(data["false_accusations"])) == (2, 0.5, 1)
    assert data["seen"][0]["files"] == ["funasr/models/model.py"]


def test_several_choices_of_faults_add_up() -> None:
    options = _parser().parse_args(["power", "--only", "a", "b", "--only", "c"])
    assert options.only == ["a", "b", "c"]
    assert _parser().parse_args(["power"]).only == []
