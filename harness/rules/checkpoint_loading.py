"""Is what is in memory after loading what was saved, and is it said what was left out?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.rules.questions import RuleQuestion, fails, holds, listed, mapping, not_asked, sequence, some


def questions(metrics: Mapping[str, Any]) -> list[RuleQuestion]:
    """On loading a fine-tuned model, and on starting from a checkpoint of another shape."""
    loading = mapping(metrics, "loading")
    return [
        _loads(loading, "average", "average_loads"),
        _loads(loading, "folder", "folder_loads"),
        _loads(loading, "bare", "bare_folder_loads"),
        _mismatch(metrics, ignore=True),
        _mismatch(metrics, ignore=False),
    ]


def _loads(loading: Mapping[str, Any], key: str, name: str) -> RuleQuestion:
    loaded = loading.get(key)
    wanted = {"average": "model.pt.avg", "folder": "model.pt", "bare": "model.pt"}[key]
    if not isinstance(loaded, Mapping):
        return not_asked(name, "there is no such file")
    if key == "folder" and not loading.get("folder_has_configuration"):
        return not_asked(name, "the trainer leaves no configuration.json; see bare_folder_loads")
    said = [str(line) for line in sequence(loaded, "said")]
    example = {"is": loaded.get("equals"), "said": said, "tensors": loaded.get("differs")}
    if loaded.get("failure"):
        text = f"it stops: {loaded['failure'].get('reason')}"
        return listed(name, text) if key == "bare" else fails(name, text)
    held = [str(file) for file in loaded.get("equals") or ()]
    if any(file.startswith(wanted) if key == "average" else file == wanted for file in held):
        text = f"what is in memory is {wanted}, tensor by tensor"
        return holds(name, text, example)
    found = " and ".join(held) or "none of the checkpoints"
    if said and key == "bare" and not held:
        text = f"what is in memory is {found}; it says: {said[0]}"
        return listed(name, text, example)
    words = f"; it says: {said[0]}" if said else ", and nothing is said"
    return fails(name, f"what is in memory is {found}, not what was saved last{words}", example)


def _mismatch(metrics: Mapping[str, Any], ignore: bool) -> RuleQuestion:
    name = "mismatch_said" if ignore else "mismatch_refused"
    cases = [case for case in metrics.get("mismatch") or () if case.get("ignore") is ignore]
    if not cases:
        return not_asked(name, "no checkpoint of another shape was tried")
    wrong = [text for case in cases for text in [_wrong_with(case)] if text]
    example = {"cases": [_shown(case) for case in cases]}
    if wrong:
        return fails(name, "; ".join(wrong), example)
    stopped = [case for case in cases if not case.get("began")]
    if ignore and stopped:
        text = f"with ignore_init_mismatch it stops all the same: {(stopped[0].get('failure') or {}).get('reason')}"
        return listed(name, text, example)
    if not ignore:
        return holds(name, "it stops and says why", example)
    counts = ", ".join(f"{len(case['left_out'])} of {case['kind']}" for case in cases)
    return holds(name, f"it names every tensor left out: {counts}", example)


def _wrong_with(case: Mapping[str, Any]) -> str:
    kind, left = case.get("kind"), list(case.get("left_out") or ())
    if not case.get("began"):
        return ""
    if case.get("lost"):
        return f"of a checkpoint of another {kind}, tensors that fit were not taken over: {some(case['lost'])}"
    names = [entry["name"] for entry in left]
    if not case.get("ignore"):
        return f"of a checkpoint of another {kind}, it leaves out {some(names)} though told not to"
    if case.get("unsaid"):
        return f"of a checkpoint of another {kind}, it leaves out {some(case['unsaid'])} without a word"
    return ""


def _shown(case: Mapping[str, Any]) -> dict[str, Any]:
    left = list(case.get("left_out") or ())
    return {
        "kind": case.get("kind"),
        "began": case.get("began"),
        "taken": case.get("taken"),
        "left_out": left[:20],
        "left_out_count": len(left),
        "says": case.get("line") or (case.get("failure") or {}).get("reason"),
    }
