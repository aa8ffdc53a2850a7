"""The parsers of files from outside, each with valid documents to mutate and the call that a command makes of it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from harness.bundle.archive import Manifest
from harness.bundle.result import import_result
from harness.compare.drift.recordings import load_recordings
from harness.compare.transitions.commit_notes import load_commits
from harness.config.matrix import load_matrix
from harness.config.toml_tables import Problems
from harness.core.cells import Cell, Check, Release
from harness.core.documents import parse_json
from harness.core.errors import InputError, StoreError
from harness.core.tree_events import from_bytes
from harness.corpus.jsonl import read_rows, with_value
from harness.explain.explain import UnreadableLogError, explain_stream
from harness.performance.baselines import load_baselines
from harness.performance.prediction.calibration import read_calibration
from harness.preflight.command import read_script, read_words
from harness.preflight.settings import read_config
from harness.releases import load_lock, resolve
from harness.releases.local import read_local
from harness.rules.known_issues import load_known_issues
from harness.run.artifacts import read_answer
from harness.run.store import OUTCOMES, RUN, load_run
from harness.variants import reading
from harness.variants.catalogue import available, folder_dimensions
from harness.variants.from_folder import tokens_of
from harness.watch.reading import NotARecord, parse_line
from tests.fuzz.mutations import Dump, as_json, as_toml, of_toml

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One parser."""

    name: str
    seeds: tuple[bytes, ...]
    """Valid documents."""
    call: Callable[[Path, bytes], object]
    """Reads a document as a command does; the folder is empty, or has what an earlier call wrote."""
    structures: tuple[Any, ...] = ()
    """The seeds as values, where their structure can be mutated."""
    dump: Dump = as_json
    errors: tuple[type[Exception], ...] = (InputError, StoreError)
    """The clear errors."""
    hostile: Mapping[str, bytes] = field(default_factory=dict)
    """Known gaps, by name: each is tried besides."""


@cache
def _locked() -> tuple[Release, ...]:
    return load_lock(ROOT / "matrices" / "releases.lock.toml")


def _written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _matrix(folder: Path, content: bytes) -> object:
    return load_matrix(
        _written(folder, "m.toml", content),
        resolve=lambda spec: resolve(spec, _locked()),
        variants=available(),
        gpu_present=False,
        folder_dimensions=folder_dimensions,
    )


def _run(name: str) -> Callable[[Path, bytes], object]:
    def call(folder: Path, content: bytes) -> object:
        _written(folder, RUN, _RUN_JSON if name != RUN else content)
        _written(folder, OUTCOMES, _OUTCOMES if name != OUTCOMES else content)
        loaded = load_run(folder)
        provenance = loaded.provenance
        return (provenance.differences(provenance), provenance.to_json(), provenance.merge_resumed(provenance))

    return call


def _results(_folder: Path, content: bytes) -> object:
    return [read_answer(content.decode("utf-8", "replace"), check) for check in (Check.FINETUNE, Check.CONSTRUCT)]


def _bundle_result(folder: Path, content: bytes) -> object:
    target = folder / "imported"
    for path in target.glob("*") if target.is_dir() else ():
        path.unlink()
    return import_result(_written(folder, "r.zip", content), target)


def _zipped(value: Any) -> bytes:
    """A bundle's result with one of its records mutated and its hashes right, so that the inner parsers are reached."""
    import hashlib

    contents = {RUN: as_json(value["run"]), OUTCOMES: as_json(value["outcome"]) + b"\n"}
    description = dict(value["description"]) if isinstance(value["description"], dict) else value["description"]
    if isinstance(description, dict) and isinstance(description.get("files"), dict):
        description["files"] = {name: hashlib.sha256(one).hexdigest() for name, one in contents.items()}
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("result.json", as_json(description))
        for name, one in contents.items():
            archive.writestr(name, one)
    return written.getvalue()


def _zip_of(value: Any) -> bytes:
    keys = ("run", "outcome", "description")
    return _zipped(value) if isinstance(value, dict) and set(keys) <= set(value) else as_json(value)


def _baselines(folder: Path, content: bytes) -> object:
    _written(folder, f"{_BASELINE.stem}.json", content)
    return load_baselines(folder)


def _rows(folder: Path, content: bytes) -> object:
    problems = Problems(source="train.jsonl")
    rows = read_rows(_written(folder, "train.jsonl", content), problems)
    problems.stop_if_any()
    return [(row.name, with_value(row, "source", "b.wav")) for row in rows if row.source]


def _script(folder: Path, content: bytes) -> object:
    return read_script(_written(folder, "finetune.sh", content), root=folder)


def _words(_folder: Path, content: bytes) -> object:
    return read_words(content.decode("utf-8", "surrogateescape").replace("\0", "").split("\n"))


def _log(folder: Path, content: bytes) -> object:
    return explain_stream(io.BytesIO(content), source="log", named=None, cache=folder)


def _checkout(folder: Path, content: bytes) -> object:
    _written(folder, "funasr/__init__.py", b"")
    _written(folder, "funasr/version.txt", b"1.0.0")
    _written(folder, "setup.py", content)
    return read_local(folder)


def _project(folder: Path, content: bytes) -> object:
    _written(folder, "funasr/__init__.py", b"")
    _written(folder, "funasr/version.txt", b"1.0.0")
    _written(folder, "pyproject.toml", content)
    return read_local(folder)


def _version(folder: Path, content: bytes) -> object:
    _written(folder, "funasr/__init__.py", b"")
    _written(folder, "funasr/version.txt", content)
    return read_local(folder)


def _wheel(folder: Path, content: bytes) -> object:
    return read_local(_written(folder, "funasr-1.0.0-py3-none-any.whl", content))


def _specs(_folder: Path, content: bytes) -> object:
    return resolve(content.decode("utf-8", "surrogateescape"), _locked())


def _cell_id(_folder: Path, content: bytes) -> object:
    return Cell.parse(content.decode("utf-8", "surrogateescape"))


def _manifest(_folder: Path, content: bytes) -> object:
    return Manifest.from_json(parse_json(content))


def _tokens(folder: Path, content: bytes) -> object:
    _written(folder, "tokens.json", content)
    return tokens_of(folder)


def _calibration(folder: Path, content: bytes) -> object:
    _written(folder, "gpu/calibration.json", content)
    return read_calibration(folder, "gpu")


def _events(_folder: Path, content: bytes) -> object:
    return from_bytes(content)


def _record(_folder: Path, content: bytes) -> object:
    return parse_line(content)


def _small_run() -> tuple[bytes, bytes]:
    from report_factory import RELEASES, atlas, run_of

    from harness.core.durable import json_text
    from harness.run.outcome_lines import line_of

    outcomes = atlas(RELEASES[6:7])
    return json_text(run_of(outcomes).provenance.to_json()).encode(), b"".join(map(line_of, outcomes[:6]))


_RUN_JSON, _OUTCOMES = _small_run()


def _first_baseline() -> tuple[Path, bytes]:
    import baseline_scene

    from harness.performance.baselines.files import text_of

    made = baseline_scene.accepted(*(baseline_scene.run(number) for number in range(3)))
    return Path(f"{made.key.name}.json"), text_of(made).encode()


_BASELINE, _BASELINE_TEXT = _first_baseline()


def _wheel_bytes() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("funasr/__init__.py", "")
        archive.writestr("funasr-1.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: funasr\nVersion: 1.0.0\n")
    return written.getvalue()


_RESULT = {
    "status": "failed",
    "reason": "it fails",
    "failure": {
        "type": "E",
        "message": "m",
        "signature": "E@f:g",
        "frames": [{"file": "funasr/f.py", "line": 3, "function": "g", "code": "x"}],
    },
    "metrics": {"steps": 2, "losses": [1.0, 0.5]},
    "evidence": {"findings": []},
    "shims": ["a"],
}
_ROW = {"key": "a", "source": "a.wav", "source_len": 100, "target": "你好", "target_len": 2, "prompt": "<ASR>"}
_SCRIPT = b"""#!/usr/bin/env bash
workspace=`pwd`
export CUDA_VISIBLE_DEVICES="0,1"
gpu_num=$(echo $CUDA_VISIBLE_DEVICES | awk -F "," '{print NF}')
model=${model:-iic/paraformer}
if [ -z "$1" ]; then data_dir="${workspace}/data"; else data_dir="$1"; fi
for x in train val; do echo "$x" > /dev/null; done
torchrun --nnodes ${WORLD_SIZE:-1} --nproc_per_node $gpu_num ../../../funasr/bin/train.py \\
++model="${model}" ++train_data_set_list="${data_dir}/train.jsonl" ++dataset_conf.batch_size=20000 \\
++train_conf.max_epoch=$((10 * 5)) ++optim_conf.lr=0.0002 ++output_dir="./outputs" &> log.txt
"""
_WORDS = (
    b"++model=x\n++train_conf.max_epoch=50\n++optim_conf={lr: 0.1}\n++dataset_conf.a=[1,2,'x']\n~decoder\n"
    b"funasr/bin/train.py"
)
_EVENT = {"event": "blocked", "files": [], "number": 1, "by": [2, 3]}
_MANIFEST = {
    **{"schema": 1, "matrix": "m", "matrix_file": "m.toml", "matrix_sha256": "a", "python": "3.12", "platform": "x"},
    **{"cells": ["a"], "selection": [], "left_out": {"import": "why"}, "releases": ["1.0.0"]},
    **{"libraries": {"numpy": {"version": "1", "modules": ["numpy"]}}, "harness_version": "1"},
    **{"harness_commit": None, "harness_dirty": None, "parts": {"a": {"sha256": "b", "bytes": 1}}, "arguments": []},
}
_BOMB = b"".join(b"%c: &%c [*%c, *%c]\n" % (98 + at, 98 + at, 97 + at, 97 + at) for at in range(24))
YAML_GAPS = {
    "timestamp": b"a: 2020-13-45",
    "tag": b"a: !!python/object/apply:os.system [id]",
    "alias bomb": b"a: &a [x, x]\n" + _BOMB,
    "merge bomb": b"a: &a {k: 1}\n"
    + b"".join(b"%c: &%c\n  <<: [*%c, *%c]\n" % (98 + at, 98 + at, 97 + at, 97 + at) for at in range(24)),
    "cycle": b"a: &a [*a]",
    "cycle of mappings": b"&a {b: *a}",
    "deep": b"[" * 100_000,
    "digits": b"a: " + b"9" * 5000,
    "many keys": b"\n".join(b"k%d: %d" % (at, at) for at in range(80_000)),
}
TOML_GAPS = {
    "digits": b"schema = " + b"9" * 5000,
    "deep": b"a = " + b"[" * 50_000,
    "dotted key": b".".join([b"a"] * 50_000) + b" = 1",
    "dotted keys": b"\n".join(b"a.b.c.k%d = 1" % at for at in range(50_000)),
    "one long word": b"a = 0b" + b"1" * 1_500_000,
    "too large": b"#" * 3_000_000,
}
JSON_GAPS = {
    "digits": b'{"schema": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "no object": b"[]",
    "NaN": b'{"schema": NaN}',
    "empty": b"",
    "infinite": b'{"schema": 1e999}',
}


def parsers() -> tuple[Parser, ...]:
    """All of them."""
    matrices = [path.read_bytes() for path in (ROOT / "matrices").glob("*.toml") if b"[axes]" in path.read_bytes()]
    million = (
        b'schema = 1\nname = "m"\ndescription = "d"\n[axes]\nrelease = ["all"]\nvariant = ["paraformer", "sanm"]\n'
        b'vocab_size = [%s]\nhidden_size = [%s]\ncheck = ["finetune", "construct"]\n'
        % (b",".join(b"%d" % (4000 + at) for at in range(60)), b",".join(b"%d" % (64 * at) for at in range(1, 60)))
    )
    paths = b'schema = 1\nname = "m"\ndescription = "d"\n[axes]\nrelease = [%s]\nvariant = [%s]\ncheck = ["import"]\n'
    issues = (ROOT / "matrices" / "known_issues.toml").read_text("utf-8")
    lock = (ROOT / "matrices" / "releases.lock.toml").read_text("utf-8")
    head = "\n".join(issues.split("[[issue]]")[0:1]) + "[[issue]]" + "[[issue]]".join(issues.split("[[issue]]")[1:4])
    small_lock = "[[release]]".join(lock.split("[[release]]")[:4])
    variants = [path.read_bytes() for path in sorted((ROOT / "harness" / "variants").glob("*.yaml"))]
    outcome_lines = _OUTCOMES.splitlines()
    records = _records()
    logs = [path.read_bytes()[:20_000] for path in sorted((ROOT / "tests" / "explain_cases").glob("*.log"))[:12]]
    toml = {"dump": as_toml, "hostile": TOML_GAPS}
    description = {
        "schema": 1,
        "files": {RUN: "", OUTCOMES: ""},
        "bundle": {"harness_commit": None, "harness_dirty": None, "matrix": "m"},
    }
    bundle = {"run": json.loads(_RUN_JSON), "outcome": json.loads(outcome_lines[0]), "description": description}
    drift, commits = ((ROOT / "reports" / "atlas" / name).read_bytes() for name in ("drift.json", "commits.json"))
    drift_value = json.loads(drift)
    drift_value["recordings"] = drift_value["recordings"][:2]

    def structured(name: str, seeds: list[bytes], call: Callable[[Path, bytes], object], **more: Any) -> Parser:
        values = tuple(json.loads(seed) for seed in seeds)
        return Parser(**{"name": name, "seeds": tuple(seeds), "call": call, "structures": values, **more})

    return (
        Parser(
            name="matrix",
            seeds=tuple(matrices),
            call=_matrix,
            structures=tuple(of_toml(one.decode()) for one in matrices),
            dump=as_toml,
            hostile=TOML_GAPS
            | {
                "a million cells": million,
                "NUL": paths % (b'"a\\u0000/b"', b'"\\u0000.yaml"'),
                "5,000 characters": paths % (b'"/%s"' % (b"a" * 5000), b'"%s.yaml"' % (b"a/" * 2500)),
                "nobody's home": paths % (b'"~nosuchuser/x"', b'"~nosuchuser/x.yaml"'),
                "versions": paths % (b'"%s", "1.%s", ">=%s", "", "=="' % ((b"9" * 5000,) * 3), b'"paraformer"'),
            },
        ),
        Parser(
            name="known issues",
            seeds=(head.encode(),),
            call=lambda folder, content: load_known_issues(_written(folder, "k.toml", content), variants=available()),
            structures=(of_toml(head),),
            **toml,
        ),
        Parser(
            name="lock",
            seeds=(small_lock.encode(),),
            call=lambda folder, content: load_lock(_written(folder, "l.toml", content)),
            structures=(of_toml(small_lock) | {"made": "2026-01-01"},),
            **toml,
        ),
        Parser(
            name="variant",
            seeds=tuple(variants),
            call=lambda folder, content: reading.read(_written(folder, "v.yaml", content), source="v.yaml"),
            structures=tuple(yaml.safe_load(one) for one in variants),
            hostile=YAML_GAPS,
        ),
        Parser(
            name="user's config",
            seeds=tuple(variants),
            call=lambda folder, content: read_config(_written(folder, "config.yaml", content)),
            structures=tuple(yaml.safe_load(one) for one in variants),
            hostile=YAML_GAPS,
        ),
        structured("tokens", [b'["<blank>", "a", "<unk>"]'], _tokens, hostile=JSON_GAPS),
        structured("jsonl", [as_json(_ROW)], _rows, hostile=JSON_GAPS),
        structured("run.json", [_RUN_JSON], _run(RUN), hostile=JSON_GAPS),
        structured(
            "outcomes",
            outcome_lines,
            _run(OUTCOMES),
            dump=lambda value: as_json(value) + b"\n",
            hostile={name: one + b"\n" for name, one in JSON_GAPS.items() if one},
        ),
        structured("result of a cell", [as_json(_RESULT)], _results, hostile=JSON_GAPS),
        Parser(
            name="result of a bundle",
            seeds=(_zipped(bundle),),
            call=_bundle_result,
            structures=(bundle,),
            dump=_zip_of,
        ),
        structured("manifest of a bundle", [as_json(_MANIFEST)], _manifest, errors=(ValueError,), hostile=JSON_GAPS),
        structured("baseline", [_BASELINE_TEXT], _baselines, hostile=JSON_GAPS),
        structured(
            "calibration",
            [b'{"context_bytes": 1, "workspace_bytes": 1, "origin": {}}'],
            _calibration,
            hostile=JSON_GAPS,
        ),
        structured("event", [as_json(_EVENT)], _events, errors=(ValueError,), hostile=JSON_GAPS),
        structured(
            "record of watch",
            [as_json(one) for one in records],
            _record,
            errors=(NotARecord,),
            hostile={**JSON_GAPS, "a kind that is an object": b'{"kind": {}}', "no kind": b"{}"},
        ),
        structured(
            "divergences",
            [json.dumps(drift_value).encode()],
            lambda folder, content: load_recordings(_written(folder, "drift.json", content).parent),
            hostile=JSON_GAPS,
        ),
        structured(
            "commits",
            [commits],
            lambda folder, content: load_commits(_written(folder, "commits.json", content).parent),
            hostile=JSON_GAPS,
        ),
        Parser(
            name="script",
            seeds=(_SCRIPT,),
            call=_script,
            hostile={
                "an empty word": b'torchrun funasr/bin/train.py "" ++model=x\n',
                "a long word": b"torchrun funasr/bin/train.py ++model=%s ++a=b\\\n" % (b"a" * 60_000),
            },
        ),
        Parser(name="overrides", seeds=(_WORDS,), call=_words),
        Parser(name="log", seeds=tuple(logs), call=_log, errors=(UnreadableLogError,)),
        Parser(
            name="setup.py",
            seeds=(b'requirements = {"install": ["numpy", "torch"], "all": []}\nversion = 1\n',),
            call=_checkout,
            hostile={"minus signs": b"x = " + b"-" * 200_000 + b"1", "brackets": b"(" * 50_000, "NUL": b"a\0b"},
        ),
        Parser(
            name="pyproject.toml",
            seeds=(b'[project]\nname = "funasr"\ndependencies = ["numpy"]\n',),
            call=_project,
            structures=({"project": {"name": "funasr", "dependencies": ["numpy"]}},),
            **toml,
        ),
        Parser(
            name="version.txt",
            seeds=(b"1.0.0\n", b"1.2.3.dev4+local.1"),
            call=_version,
            hostile={"none": b"", "endless": b"1." * 100_000, "digits": b"9" * 5000, "words": b"latest"},
        ),
        Parser(name="wheel", seeds=(_wheel_bytes(),), call=_wheel),
        Parser(
            name="release in words",
            seeds=(b">=1.0.12,<1.1", b"1.4.16", b"latest"),
            call=_specs,
            hostile={"digits": b"9" * 5000, "endless": b"1." * 100_000, "home": b"~nosuchuser/x.whl", "NUL": b"a/\0"},
        ),
        Parser(
            name="cell id",
            seeds=(b"1.4.16/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32",),
            call=_cell_id,
            errors=(ValueError,),
        ),
    )


def _records() -> list[Any]:
    import dataclasses

    from hostile_text import planted

    from harness.watch.records import KINDS

    names = {kind: name for name, kind in KINDS.items()}
    return [
        {"kind": names[kind], **json.loads(json.dumps(dataclasses.asdict(planted(kind, "x")), default=str))}
        for kind in KINDS.values()
    ]
