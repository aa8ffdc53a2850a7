"""The properties in a real release: what is planted is seen, what is repaired holds, what is sound is not accused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import property_faults
import pytest
import yaml
from forked import Forked
from property_faults import FAULTS, REPAIRS

from harness.core.cells import Cell, Depth, Dimensions
from harness.environments.environment import probe
from harness.releases import default_cache
from harness.rules.counterexamples import load_counterexamples
from harness.rules.known_issues import load_known_issues
from harness.variants.catalogue import available, load_variant
from harness.variants.variant import render

pytestmark = [pytest.mark.release, pytest.mark.timeout(1800)]

VARIANTS = ("paraformer", "paraformer_streaming")
FILE = Path(__file__).parent.parent / "matrices" / "known_issues.toml"
# So small that the own shape costs as little as any.
SHAPE = Dimensions(vocab_size=60, hidden_size=32)
KNOWN = {
    "paraformer": {
        "ctc_in_evaluation_draws_nothing",
        "one_target_is_enough",
        "predictor_ends_where_the_utterance_ends",
        "predictor_fires_for_every_token",
    },
    "paraformer_streaming": {
        "ctc_in_evaluation_draws_nothing",
        "evaluation_gives_the_loss_of_training",
        "every_token_sees_frames",
        "one_target_is_enough",
        "predictor_ends_where_the_utterance_ends",
        "predictor_fires_for_every_token",
    },
}
"""What 1.4.16 does not keep; see docs/checks.md#properties."""


@pytest.fixture(scope="module")
def paths() -> list[str]:
    pytest.importorskip("torch", reason="runs releases: install the `stack` extra")
    return [str(path) for path in probe(cache=default_cache()).extra_paths]


@pytest.fixture(scope="module")
def requests(layout: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The cells of both variants in 1.4.16."""
    asked = {}
    for name in VARIANTS:
        variant = load_variant(name)
        folder = tmp_path_factory.mktemp(name)
        text = yaml.safe_dump(render(variant, dimensions=SHAPE, depth=Depth.REDUCED))
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        asked[name] = {
            "check": "properties",
            "release": {"install_dir": str(layout("1.4.16")), "version": "1.4.16"},
            "components": sorted([list(pair) for pair in variant.components]),
            "model_folder": str(folder),
            "groups": {group: list(prefixes) for group, prefixes in variant.groups.items()},
            "vocab_size": SHAPE.vocab_size,
            "hidden_size": SHAPE.hidden_size,
            "seed": 0,
        }
    return asked


@pytest.fixture(scope="module")
def answers(forked: Forked, requests: dict[str, dict[str, Any]], paths: list[str]) -> dict[str, Any]:
    """All faults and all repairs, in one child that imports the release once."""
    subjects = {
        name: {
            "base": yaml.safe_load((Path(request["model_folder"]) / "config.yaml").read_text("utf-8")),
            "install_dir": request["release"]["install_dir"],
            **{key: request[key] for key in ("groups", "vocab_size", "hidden_size")},
        }
        for name, request in requests.items()
    }
    components = sorted({tuple(pair) for request in requests.values() for pair in request["components"]})
    found: dict[str, Any] = forked(
        property_faults.ask, subjects=subjects, components=[list(pair) for pair in components], paths=paths
    )
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen_by_the_property_that_is_about_it(answers: dict[str, Any], name: str) -> None:
    found, fault = answers["faults"][name], FAULTS[name]
    assert (found["name"], found["status"]) == (fault.asked, "fails"), found
    assert fault.says in found["message"]
    assert "\nexample:\n" in found["counterexample"]


@pytest.mark.parametrize("name", [f"{variant}/{name}" for variant in VARIANTS for name in sorted(KNOWN[variant])])
def test_what_fails_in_the_release_holds_once_its_cause_is_repaired(answers: dict[str, Any], name: str) -> None:
    found = answers["repairs"][name]
    assert (found["status"], found["message"]) == ("holds", "")
    assert found["examples"] > 0


def test_every_property_is_held_against_a_fault_or_a_repair() -> None:
    asked = {each.name for each in property_faults.properties.PROPERTIES}
    assert {fault.asked for fault in FAULTS.values()} | set(REPAIRS) == asked


@pytest.fixture(scope="module", params=VARIANTS)
def sound(
    request: pytest.FixtureRequest, forked: Forked, requests: dict[str, dict[str, Any]], paths: list[str]
) -> dict[str, Any]:
    """The whole check with its own settings."""
    result: dict[str, Any] = forked(property_faults.check, request=requests[request.param], paths=paths)
    return {**result, "variant": request.param}


def test_a_release_fails_of_what_it_does_not_keep_and_of_nothing_else(sound: dict[str, Any]) -> None:
    broken = KNOWN[sound["variant"]]
    assert sound["status"] == "failed"
    assert sound["failure"]["signature"] == "PropertyFails@" + "+".join(sorted(broken))
    status = {each["name"]: each["status"] for each in sound["evidence"]["properties"]}
    assert {name for name, is_so in status.items() if is_so == "fails"} == broken
    not_asked = {name for name, is_so in status.items() if is_so == "does_not_apply"}
    streaming = {"every_token_sees_frames", "chunks_see_no_future", "tokens_see_no_future", "one_chunk_is_full_context"}
    assert not_asked == (streaming if sound["variant"] == "paraformer" else set())
    assert set(status.values()) == {"fails", "holds", *({"does_not_apply"} if not_asked else ())}


def test_the_examples_are_counted_and_there_are_enough_of_them(sound: dict[str, Any]) -> None:
    metrics = sound["metrics"]
    assert metrics["examples"] == sum(metrics["examples_by_property"].values()) >= 200
    assert set(metrics["seconds_by_property"]) == set(metrics["examples_by_property"])


def test_counter_examples_can_be_pasted_and_tell_nothing_of_this_machine(
    sound: dict[str, Any], forked: Forked, requests: dict[str, dict[str, Any]], paths: list[str]
) -> None:
    texts = {each["property"]: each["config"] for each in sound["evidence"]["counterexamples"]}
    assert set(texts) == KNOWN[sound["variant"]]
    config = yaml.safe_load(texts["predictor_fires_for_every_token"])
    assert config["model"] in ("Paraformer", "ParaformerStreaming")
    assert {"frames", "tokens", "seed"} <= set(config["example"])
    assert str(Path.home()) not in json.dumps(sound)
    # Stored, they are held against the release once, and nothing is searched for them.
    request = {**requests[sound["variant"]], "settings": {"examples": 22, "known": texts}}
    again = forked(property_faults.check, request=request, paths=paths)
    known = {each["name"]: each["examples"] for each in again["evidence"]["properties"] if each["status"] == "known"}
    assert known == dict.fromkeys(texts, 1)
    assert again["failure"]["signature"] == sound["failure"]["signature"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_committed_counter_examples_are_still_ones(
    variant: str, forked: Forked, requests: dict[str, dict[str, Any]], paths: list[str]
) -> None:
    issues = load_known_issues(FILE, variants=available())
    cell = Cell.parse(f"1.4.16/{variant}/{SHAPE}/reduced/properties/cpu-fp32")
    texts = load_counterexamples(issues, FILE)(cell)
    assert set(texts) == KNOWN[variant]
    request = {**requests[variant], "settings": {"examples": 22, "known": texts}}
    answer = forked(property_faults.check, request=request, paths=paths)
    status = {each["name"]: each["status"] for each in answer["evidence"]["properties"]}
    assert {name for name, is_so in status.items() if is_so == "known"} == KNOWN[variant]
