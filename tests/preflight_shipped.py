"""FunASR's own configs and scripts put to preflight's rules about keys: the measure of false alarms.

`python tests/preflight_shipped.py` puts all of them, of ten releases, and counts; the tests put a part.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.version import Version
from preflight_key_recording import LOCK, SHIPPED, settings_of

from harness.core.cells import Release, Severity
from harness.environments.environment import Environment
from harness.preflight.command import TrainingCommand
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.keys.check import check
from harness.releases import default_cache, fetch, install_path, load_lock

NOWHERE = Path("/nowhere")
REFUSED_RIGHTLY = frozenset({"examples/industrial_data_pretraining/whisper/finetune.sh"})
"""It sets `train_conf.output_dir`, `train_conf.lr` and `train_conf.warmup_steps`: FunASR's trainer raises a TypeError
at the first, and reads none of the others."""
PLAIN = "funasr/models/paraformer/template.yaml"
NO_INTERPRETER = Environment(
    python=NOWHERE / "python",
    python_version="3.11",
    torch_version="2.13.0",
    cuda_version=None,
    cuda_available=False,
    gpu_names=(),
    libraries={},
    torchaudio_imports=True,
    user_base=None,
)


def inputs_of(
    release: Release,
    config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    *,
    entry: str | None = None,
    model: Path = NOWHERE / "model",
    root: Path = NOWHERE,
    cache: Path | None = None,
) -> Inputs:
    """What preflight looks at, of keys and values alone."""
    return Inputs(
        model=model,
        release=release,
        install_dir=install_path(release, default_cache()),
        cache=cache or default_cache(),
        environment=NO_INTERPRETER,
        train=None,
        valid=None,
        command=TrainingCommand(overrides=tuple(settings_of(dict(overrides), command=True)), entry=entry),
        config=settings_of(dict(config), command=False),
        gpus=None,
        card=None,
        root=root,
    )


def recorded() -> dict[str, list[dict[str, Any]]]:
    """The recorded configs and scripts."""
    found: dict[str, list[dict[str, Any]]] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return found


def plain_config(version: str = "1.2.7") -> dict[str, Any]:
    """The settings of FunASR's template of Paraformer."""
    return next(
        dict(one["values"])
        for one in recorded()["configs"]
        if one["name"] == PLAIN and (version in one["releases"] or version not in _releases())
    )


def _releases() -> set[str]:
    return {version for one in recorded()["configs"] for version in one["releases"]}


def cases(wanted: Callable[[str, str], bool]) -> Iterator[tuple[str, str, Inputs]]:
    """Each config alone, and each script with the configs that it can be for: name, release, inputs."""
    releases = {one.version: one for one in load_lock(LOCK)}
    shipped = recorded()
    for one in shipped["configs"]:
        for version in one["releases"]:
            if wanted(one["name"], version):
                yield one["name"], version, inputs_of(releases[version], one["values"], {})
    for script in shipped["scripts"]:
        for version in script["releases"]:
            if wanted(script["name"], version):
                for config in _configs_for(script, version, shipped["configs"]):
                    inputs = inputs_of(releases[version], config["values"], script["values"], entry=script["entry"])
                    yield script["name"], version, inputs


def _configs_for(script: dict[str, Any], version: str, configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    folder, wanted = script["name"].split("/")[-2], Path(script["config"]).name
    there = [one for one in configs if version in one["releases"]]
    near = [
        one for one in there if f"/{folder}/" in one["name"] and Path(one["name"]).name == (wanted or "template.yaml")
    ]
    return near or [one for one in there if one["name"] == PLAIN]


def accused(inputs: Inputs) -> list[PreflightFinding]:
    """The findings above `minor`."""
    return [one for one in check(inputs).findings if one.severity is not Severity.MINOR]


def moved_to(version: str) -> Iterator[tuple[str, Inputs]]:
    """What the newest recorded release ships, with a later release: that is what users of it have.

    Releases from 1.4.4 on ship no script and no config, neither in their wheels nor in their sdists.
    """
    releases = {one.version: one for one in load_lock(LOCK)}
    newest = max(_releases(), key=Version)
    for name, _, inputs in cases(lambda _, of: of == newest):
        target = releases[version]
        yield name, replace(inputs, release=target, install_dir=install_path(target, default_cache()))


def main() -> None:
    """Count over all ten releases."""
    only = set(sys.argv[1:])
    releases = [one for one in load_lock(LOCK) if one.version in (only or _releases())]
    fetch(releases, default_cache(), jobs=1)
    met: Counter[str] = Counter()
    for name, version, inputs in cases(lambda _, version: not only or version in only):
        met["checked"] += 1
        met["rightly refused" if name in REFUSED_RIGHTLY else "accused"] += bool(found := accused(inputs))
        met["with a minor finding"] += bool(check(inputs).findings) and not found
        for one in found:
            print(version, name, one.severity, one.rule, one.place.key, one.message)
    print(dict(met))


if __name__ == "__main__":
    main()
