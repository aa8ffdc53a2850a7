"""`preflight`: will this fine-tune work? A model folder, a jsonl, a script or overrides, a release and a card."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from harness.commands.common import cache_of, print_json
from harness.commands.exit_status import FAULT, FINE, FOUND
from harness.core.cells import Device
from harness.core.durable import json_text, write_document, write_file
from harness.core.errors import InputError
from harness.environments.environment import Environment, probe
from harness.preflight.all_releases.which_releases import which_releases
from harness.preflight.command import TrainingCommand, read_script, read_words
from harness.preflight.findings import Report
from harness.preflight.folder.config_file import config_of
from harness.preflight.inputs import Inputs
from harness.preflight.preflight import examine
from harness.preflight.release.found import FoundRelease, find_release, in_a_line
from harness.preflight.rows.fixed import write_fixed
from harness.preflight.settings import SettingsInForce, read_config
from harness.preflight.terminal import render, render_table
from harness.preflight.verdict import record
from harness.releases import load_lock
from harness.run.progress import stage
from harness.text.terminal import is_quiet, is_verbose, result_console, say

EVERY_RELEASE = "all"


def main(options: argparse.Namespace) -> int:
    """Print what was found; 1 when something stops or changes the training, 3 when a part could not be checked."""
    if options.release == EVERY_RELEASE:
        _refuse_what_needs_one_release(options)
        return _with_which_releases(options, _inputs(options))
    inputs = _inputs(options)
    report = examine(inputs, progress=_progress)
    about = _about(inputs)
    _write(options, report, about)
    if options.fix:
        say(str(write_fixed(inputs, options.fix)), style="green")
    if options.json == Path("-"):
        print_json(record(report, about))
    else:
        _print(report, about, verbose=is_verbose())
    if not report.clean:
        return FOUND
    return FINE if report.go else FAULT


def _with_which_releases(options: argparse.Namespace, inputs: Inputs) -> int:
    """Print in which releases the training would work; 1 where it is none."""
    with stage("reading the code of every release in the cache"):
        table = which_releases(inputs, load_lock(options.lock))
    about = _about(inputs) | {"release": "every published release of FunASR"}
    if options.html:
        # Imported here: only a page needs the templates.
        from harness.report.preflight_page import render_releases

        _write_page(options.html, render_releases(table, about))
    if options.json:
        if options.json == Path("-"):
            print_json(table.to_json())
        else:
            write_file(options.json, json_text(table.to_json()))
    if options.json != Path("-"):
        console = result_console()
        for line in render_table(table, about, verbose=is_verbose()):
            console.print(line)
    return FINE if table.best else FOUND


def _refuse_what_needs_one_release(options: argparse.Namespace) -> None:
    """Raise an InputError for options that `--release all` cannot obey: no release runs, and no recording is read."""
    option_texts = {
        "--dry-run": options.dry_run,
        "--gpu": options.gpu is not None,
        "--fix": options.fix is not None,
        "--read-all": options.read_all,
    }
    refused = [name for name, is_given in option_texts.items() if is_given]
    if refused:
        raise InputError(
            f"--release all runs no release and opens no recording, which {', '.join(refused)} would need",
            next_step=f"leave {'it' if len(refused) == 1 else 'them'} out, or name one release",
        )


def _progress(text: str) -> AbstractContextManager[object]:
    """A line for what takes long; the rest is over before anybody reads it, or says itself how far it is."""
    if text.endswith(("memory", "dry run")):
        return nullcontext()
    return stage(text, announce=text.startswith("running"))


def _print(report: Report, about: Mapping[str, str], *, verbose: bool) -> None:
    console = result_console()
    for line in render(report, about, verbose=verbose):
        console.print(line)


def _write(options: argparse.Namespace, report: Report, about: Mapping[str, str]) -> None:
    if options.json and options.json != Path("-"):
        write_file(options.json, json_text(record(report, about)))
    if options.html:
        # Imported here: only a page needs the templates.
        from harness.report.preflight_page import render_preflight

        _write_page(options.html, render_preflight(report, about))


def _write_page(path: Path, page: str) -> None:
    write_document(path, page)
    if not is_quiet():
        say(f"page: {path}")


def _inputs(options: argparse.Namespace) -> Inputs:
    """Everything that the options name, read.

    Raises:
        InputError: all that cannot be read.
    """
    missing = [
        f"{name} {path}: no such file"
        for name, path in (("--train", options.train), ("--valid", options.valid), ("--script", options.script))
        if path is not None and not path.is_file()
    ]
    if missing:
        raise InputError("\n".join(missing), next_step="correct the path and run the command again")
    if options.script and options.words:
        raise InputError(
            "--script and overrides after `--` were both given, and each is a whole command",
            next_step="name the script, or the overrides that it passes",
        )
    cache = cache_of(options)
    with stage("looking at the interpreter and its torch"):
        environment = probe(cache=cache)
    installed = _release(options, cache)
    root = (options.root or (options.script.parent if options.script else Path())).absolute()
    command = _command(options, root)
    model = options.model.absolute()
    config = config_of(model, command, install_dir=installed.install_dir, root=root)
    return Inputs(
        model=model,
        release=installed.release,
        install_dir=installed.install_dir,
        cache=cache,
        environment=environment,
        train=_data(options.train, command.train, root),
        valid=_data(options.valid, command.valid, root),
        command=command,
        config=_config(config),
        config_path=config,
        gpus=options.gpus,
        card=options.gpu,
        root=root,
        read_all_audio=options.read_all,
        dry_run=options.dry_run,
        device=_device(options.device, environment),
        release_found=in_a_line(installed),
    )


def _release(options: argparse.Namespace, cache: Path) -> FoundRelease:
    spec = None if options.release == EVERY_RELEASE else options.release
    return find_release(spec, locked=load_lock(options.lock), cache=cache, python=options.python)


def _command(options: argparse.Namespace, root: Path) -> TrainingCommand:
    if options.script:
        return read_script(options.script.absolute(), root=root)
    return read_words(options.words)


def _device(device: str, environment: Environment) -> Device:
    """Where a dry run takes its steps.

    Raises:
        InputError: on a GPU, and torch finds none.
    """
    if device == Device.CUDA and not environment.cuda_available:
        raise InputError(
            f"--device cuda: torch {environment.torch_version} in {environment.python} finds no GPU",
            next_step="leave --device out, or say --device cpu: large models then run with few blocks",
        )
    if device == "auto":
        return Device.CUDA if environment.cuda_available else Device.CPU
    return Device(device)


def _data(option: Path | None, named: str | None, root: Path) -> Path | None:
    """A jsonl: the option's, or else the one that the command names."""
    if option:
        return option.absolute()
    return root / named if named else None


def _config(file: Path) -> SettingsInForce:
    """Of the folder's config; what is wrong with the file is a finding of the folder's."""
    try:
        return read_config(file)
    except InputError:
        return SettingsInForce()


def _about(inputs: Inputs) -> dict[str, str]:
    """What was looked at, in a few words each."""
    valid = f", validated on {inputs.valid.name}" if inputs.valid else ""
    return {
        "model": inputs.model.name,
        "data": f"{inputs.train.name}{valid}" if inputs.train else "",
        "release": f"FunASR {inputs.release_found or inputs.release.label}",
        "trainer": inputs.command.entry or "",
        "card": inputs.card or "",
    }
