"""Records what FunASR's repository ships and what each release reads, for preflight's rules about keys.

Run by hand after a new release: `python tests/preflight_key_recording.py REPOSITORY`, where REPOSITORY is a clone of
FunASR. It writes `tests/preflight_shipped_configs.json` (keys and values of templates, recipes and training scripts,
with their commits; no file is copied) and `harness/preflight/keys/known_keys.json`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.core.errors import InputError
from harness.preflight.code.release_code import code_of
from harness.preflight.findings import Place
from harness.preflight.keys.follow import read_keys
from harness.preflight.settings import Setting, SettingsInForce, read_config
from harness.releases import default_cache, install_path, load_lock

HERE = Path(__file__).parent
SHIPPED = HERE / "preflight_shipped_configs.json"
KNOWN = HERE.parent / "harness" / "preflight" / "keys" / "known_keys.json"
LOCK = HERE.parent / "matrices" / "releases.lock.toml"
RELEASES = ("1.0.6", "1.0.14", "1.0.25", "1.1.4", "1.1.12", "1.2.2", "1.2.7", "1.3.1", "1.3.20", "1.4.3")
SECTIONS = ("train_conf", "dataset_conf")
_SET = re.compile(r"""\+{1,2}([A-Za-z_][\w.]*)=("[^"]*"|'[^']*'|[^\s\\]+)""")


def git(repository: str, *words: str) -> str:
    """What git says."""
    return subprocess.run(["git", "-C", repository, *words], check=True, capture_output=True, text=True).stdout


def commits(repository: str) -> dict[str, str]:
    """The commit that set each version."""
    found: dict[str, str] = {}
    for commit in git(repository, "log", "--format=%H", "HEAD", "--", "funasr/version.txt").split():
        found.setdefault(git(repository, "show", f"{commit}:funasr/version.txt").strip(), commit)
    return found


def flattened(text: str) -> dict[str, Any]:
    """The leaves of a YAML text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return {one.path: one.value for one in read_config(path)}


def overrides(text: str) -> tuple[str, dict[str, Any]]:
    """The entry point that a script calls, and what it sets there."""
    joined = re.sub(r"\\[ \t]*\n", " ", re.sub(r"(?m)^\s*#.*$", "", text))
    variables = dict(re.findall(r"(?m)^[ \t]*(?:export )?(\w+)=[\"']?([^\"'\n#$`]*?)[\"']?[ \t]*$", joined))
    for line in joined.splitlines():
        entry = re.search(r"(?:bin/|bin\.)(train(?:_ds)?)(?:\.py)?\b", line)
        if not entry and "train_tool" in line and "=" in line and "++" in line:
            entry = re.search(r"bin[/.](train(?:_ds)?)\b", joined)
        if entry and "++" in line:
            return entry.group(1), {key: _value(value, variables) for key, value in _SET.findall(line)}
    return "", {}


def _value(text: str, variables: dict[str, str]) -> Any:
    plain = text.strip("\"'")
    plain = re.sub(r"\$\{?(\w+)\}?", lambda one: variables.get(one.group(1), one.group(0)), plain)
    return flattened(f"value: {plain}")["value"] if re.fullmatch(r"[\w.+-]+", plain) else plain


def shipped(repository: str) -> dict[str, Any]:
    """Templates, recipes and scripts of ten releases; equal ones once."""
    found: dict[str, dict[str, Any]] = {"configs": {}, "scripts": {}}
    by_version = commits(repository)
    for version in RELEASES:
        commit = by_version[version]
        for name in git(repository, "ls-tree", "-r", "--name-only", commit).split("\n"):
            kind, entry, values = "", "", {}
            if re.fullmatch(r"funasr/models/\w+/template\.yaml|examples/.*/conf/[^/]*\.yaml", name):
                try:
                    kind, values = "configs", flattened(git(repository, "show", f"{commit}:{name}"))
                except InputError as error:
                    print(version, name, error)
            elif re.fullmatch(r"examples/.*\.sh", name):
                entry, values = overrides(git(repository, "show", f"{commit}:{name}"))
                kind = "scripts" if entry else ""
            if kind and values:
                key = json.dumps([name, entry, values], default=str)
                one = found[kind].setdefault(key, {"name": name, "values": values, "commit": commit, "releases": []})
                one["releases"].append(version)
                if entry:
                    text = git(repository, "show", f"{commit}:{name}")
                    config = re.search(r"(?m)^[ \t]*config(?:_name)?=[\"']?([\w./-]+\.yaml)", text)
                    one |= {"entry": entry, "config": config.group(1) if config else ""}
    return {kind: list(ones.values()) for kind, ones in found.items()}


def settings_of(values: dict[str, Any], *, command: bool) -> SettingsInForce:
    """Recorded keys as settings."""
    return SettingsInForce(
        by_path={
            path: Setting(path=path, value=value, place=Place(key=path), from_command=command, text="")
            for path, value in values.items()
        }
    )


def read_by_releases(config: SettingsInForce) -> dict[str, dict[str, list[list[str]]]]:
    """For each entry point and key: the ranges of releases that read it."""
    releases = [one for one in load_lock(LOCK) if install_path(one, default_cache()).is_dir()]
    found: dict[str, dict[str, list[list[str]]]] = {"train": {}, "train_ds": {}}
    for entry, keys in found.items():
        before: set[str] = set()
        for release in releases:
            install_dir = install_path(release, default_cache())
            if not (install_dir / "funasr" / "bin" / f"{entry}.py").is_file():
                continue
            reading = read_keys(code_of(install_dir), entry, config, config, cache=None)
            read = {one for one in reading.read if one.count(".") == 0 or one.startswith(SECTIONS)}
            for key in sorted(one for one in read if one.count(".") < 2 and reading.is_read(one)):
                ranges = keys.setdefault(key, [])
                if key in before:
                    ranges[-1][1] = release.version
                else:
                    ranges.append([release.version, release.version])
            before = read
            print(entry, release.version, len(read), flush=True)
    return found


def main() -> None:
    """Write both files."""
    recorded = shipped(sys.argv[1])
    rows = {
        kind: "[\n" + ",\n".join(json.dumps(one, ensure_ascii=False, default=str) for one in ones) + "\n]"
        for kind, ones in recorded.items()
    }
    SHIPPED.write_text(f'{{"configs": {rows["configs"]},\n"scripts": {rows["scripts"]}}}\n', encoding="utf-8")
    if "--shipped-only" in sys.argv:
        return
    plain = next(
        one["values"]
        for one in recorded["configs"]
        if one["name"] == "funasr/models/paraformer/template.yaml" and "1.2.7" in one["releases"]
    )
    read = read_by_releases(settings_of(plain, command=False))
    configs = sorted({key for one in recorded["configs"] for key in one["values"]})
    known = {"read": read, "configs": configs}
    KNOWN.write_text(json.dumps(known, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
