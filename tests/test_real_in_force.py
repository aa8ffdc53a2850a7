"""A real release in configurations of a user's own: sound ones are accused of nothing, the same with a fault are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from test_real_releases import Edit, carry_out

from harness.config.matrix import load_matrix
from harness.core.cells import Outcome, Release, Status, Verdict
from harness.core.evidence import OWN_SETTINGS
from harness.environments.environment import probe
from harness.releases import default_cache, fetch, install_path, resolve
from harness.rules.known_issues import load_known_issues
from harness.rules.user_input import attribute
from harness.rules.verdicts import JudgedOutcome, judge
from harness.run.prepare import lay_out_releases, prepare
from harness.variants.catalogue import available

# Some minutes of two quiet processors; on a busy machine it may take a while.
pytestmark = [pytest.mark.release, pytest.mark.timeout(3600)]

SOUND = "1.4.16"
ISSUES = Path(__file__).parent.parent / "matrices" / "known_issues.toml"
VARIANTS: Mapping[str, str] = {
    "clip": "{optim: adamw, train_conf.grad_clip: 1.0}",
    "within": "{train_conf.validate_interval: 2, train_conf.save_checkpoint_interval: 2}",
    "frozen": "{freeze_param: encoder}",
    "warm": "{scheduler_conf.warmup_steps: 1000}",
    "accum": "{train_conf.accum_grad: 2}",
    "lora": "{lora_only: true}",
    "typo": "{optim_conf.lrr: 0.1}",
}
TRAINER, MAIN = "train_utils/trainer_ds.py", "bin/train_ds.py"
MISC = "import funasr.utils.misc as misc_utils\n"
COPIES: Mapping[str, tuple[Edit, ...]] = {
    "clips_higher": (Edit(TRAINER, "max_norm=self.grad_clip,", "max_norm=10 * self.grad_clip,"),),
    "more_epochs": (
        Edit(MAIN, "trainer.start_epoch, trainer.max_epoch)", "trainer.start_epoch, 1 + trainer.max_epoch)"),
    ),
    "thaws": (Edit(MAIN, "p.requires_grad = False", "p.requires_grad = True"),),
    "runs_ahead": (Edit(TRAINER, " scheduler.step()\n", " scheduler.step(); scheduler.step()\n"),),
    "skips_the_encoder": (
        Edit(
            "train_utils/load_pretrained_model.py",
            "    for k in dst_state.keys():\n",
            '    for k in [k for k in dst_state if not k.startswith("encoder.encoders.")]:\n',
        ),
    ),
    "start_is_gone": (
        Edit("auto/auto_model.py", "if os.path.exists(init_param):\n", "if os.path.exists(init_param + '.gone'):\n"),
    ),
    "by_name": (
        Edit(TRAINER, MISC, MISC + "from torch.nn.utils import clip_grad_norm_\n"),
        Edit(TRAINER, "torch.nn.utils.clip_grad_norm_(", "clip_grad_norm_("),
    ),
    "raises": (Edit(TRAINER, "            retval = model(**batch)\n", '            raise KeyError("planted")\n'),),
}
CELLS = (
    *((SOUND, variant) for variant in VARIANTS),
    *(("clips_higher", "clip"), ("more_epochs", "within"), ("thaws", "frozen"), ("runs_ahead", "warm")),
    *(("skips_the_encoder", "paraformer"), ("start_is_gone", "paraformer"), ("by_name", "paraformer")),
    ("raises", "clip"),
)
HEAD = """
schema = 1
name = "in_force"
description = "Configurations of a user's own."

[finetune]
# No question here is about width. A model 64 wide learns in as many steps at a higher rate (tests/faults/cells.py).
learning_rate = 0.01
seeds = 1
accumulate = 1
"""
INCLUDE = """
[[include]]
release = ["{release}"]
variant = ["{variant}"]
vocab_size = [1200]
hidden_size = [64]
depth = ["reduced"]
check = ["finetune@train_ds"]
device = ["cpu"]
precision = ["fp32"]
"""


def plant(locked: tuple[Release, ...], name: str, folder: Path) -> Path:
    """A copy of the sound release as a checkout, with its faults in it."""
    (release,) = resolve(SOUND, locked)
    fetch([release], default_cache(), jobs=1)
    shutil.copytree(
        install_path(release, default_cache()) / "funasr", folder / name / "funasr", copy_function=shutil.copyfile
    )
    for edit in COPIES[name]:
        file = folder / name / "funasr" / edit.file
        text = file.read_text("utf-8")
        assert text.count(edit.old) == 1, f"{edit.file} holds {edit.old!r} {text.count(edit.old)} times"
        file.write_text(text.replace(edit.old, edit.new), "utf-8")
    return folder / name


def write_variant(name: str, folder: Path) -> str:
    text = (Path(__file__).parent.parent / "harness/variants/paraformer.yaml").read_text("utf-8")
    if name == "lora":
        text = text.replace("encoder_conf:\n", "encoder_conf:\n  lora_list: [q, k, v, o]\n  lora_rank: 4\n", 1)
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("harness:\n", f"harness:\n  training: {VARIANTS[name]}\n", 1), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def judged(
    locked: tuple[Release, ...], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[tuple[str, str], JudgedOutcome]:
    """All cells, once, by the names of release and variant."""
    pytest.importorskip("torch", reason="runs releases: install the `stack` extra")
    room = tmp_path_factory.mktemp("f").resolve()
    releases = {SOUND: SOUND, **{name: str(plant(locked, name, room / "copies")) for name in COPIES}}
    variants = {"paraformer": "paraformer", **{name: write_variant(name, room) for name in VARIANTS}}
    text = HEAD + "".join(
        INCLUDE.format(release=releases[release], variant=variants[variant]) for release, variant in CELLS
    )
    (room / "matrix.toml").write_text(text, encoding="utf-8")
    matrix = load_matrix(
        room / "matrix.toml", resolve=partial(resolve, locked=locked), variants=available(), gpu_present=False
    )
    stack = probe(cache=default_cache())
    prepared = prepare(matrix, matrix.cells, stack, cache=default_cache(), workspace=room)
    lay_out_releases(prepared, matrix.cells)
    labels = {release.label: release.path.name if release.path else release.label for release in matrix.releases}
    outcomes = carry_out(matrix, prepared, stack, room).values()
    settled = [_with(prepared.evidence_for(outcome.cell), outcome) for outcome in outcomes]
    found = judge(settled, load_known_issues(ISSUES, variants=available()))
    return {(labels[one.outcome.cell.release], str(one.outcome.cell.variant)): one for one in found}


def _with(known: Mapping[str, object], outcome: Outcome) -> Outcome:
    assert (OWN_SETTINGS in known) is (outcome.cell.variant in VARIANTS)
    return attribute(replace(outcome, evidence={**outcome.evidence, **known}))


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "typo"])
def test_a_sound_training_in_a_users_configuration_is_accused_of_nothing(
    judged: Mapping[tuple[str, str], JudgedOutcome], variant: str
) -> None:
    one = judged[SOUND, variant]
    assert (one.outcome.status, one.outcome.reason) == (Status.PASSED, "")
    # Known where the release sends tensors to a GPU that is not there, which is a finding of its own.
    assert one.verdict in (Verdict.AS_EXPECTED, Verdict.KNOWN)
    config = one.outcome.metrics["config_in_force"]
    assert config["source"] == "trainer"
    assert "configuration" not in one.outcome.evidence["training"]["invariants"]["not_observed"]


def test_what_is_configured_is_what_is_in_force(judged: Mapping[tuple[str, str], JudgedOutcome]) -> None:
    configs = {variant: judged[SOUND, variant].outcome.metrics["config_in_force"] for variant in VARIANTS}
    assert (configs["clip"]["optim"], configs["clip"]["grad_clip"]) == ("adamw", 1.0)
    assert configs["within"]["train_conf"]["validate_interval"] == 2
    assert configs["frozen"]["frozen_groups"] == ["encoder"]
    assert configs["lora"]["frozen_groups"] == ["decoder"]
    assert configs["warm"]["scheduler_conf"]["warmup_steps"] == 1000
    assert judged[SOUND, "accum"].outcome.metrics["steps"] == 21


@pytest.mark.parametrize(
    ("release", "variant", "names"),
    [
        ("clips_higher", "clip", {"clipping"}),
        ("more_epochs", "within", {"epochs"}),
        ("thaws", "frozen", {"frozen"}),
        ("runs_ahead", "warm", {"schedule"}),
        ("skips_the_encoder", "paraformer", {"start"}),
        ("start_is_gone", "paraformer", {"start"}),
    ],
)
def test_a_fault_in_the_same_configuration_is_accused(
    judged: Mapping[tuple[str, str], JudgedOutcome], release: str, variant: str, names: set[str]
) -> None:
    one = judged[release, variant]
    assert names <= set(one.outcome.evidence["training"]["unmet"])
    assert one.verdict is Verdict.REGRESSION


def test_clipping_that_is_bound_by_name_is_watched(judged: Mapping[tuple[str, str], JudgedOutcome]) -> None:
    outcome = judged["by_name", "paraformer"].outcome
    assert outcome.status is Status.PASSED
    assert all(norm is not None for norm in outcome.metrics["gradient_norms"])
    assert outcome.evidence["training"]["invariants"]["reasons"]["clipping"] == ()


def test_a_typo_is_the_users_and_names_the_key(judged: Mapping[tuple[str, str], JudgedOutcome]) -> None:
    one = judged[SOUND, "typo"]
    assert one.verdict is Verdict.YOURS
    assert "typo.yaml sets `optim_conf.lrr: 0.1`" in one.sentence
    assert 'did you mean "optim_conf.lr"?' in one.sentence
    assert one.outcome.evidence["control"] == {"failure": None}


def test_a_failure_that_comes_without_the_users_settings_too_is_the_releases(
    judged: Mapping[tuple[str, str], JudgedOutcome],
) -> None:
    one = judged["raises", "clip"]
    assert one.outcome.failure is not None
    assert one.outcome.evidence["control"] == {"failure": one.outcome.failure.signature}
    assert one.verdict is Verdict.REGRESSION
