"""Rules about the launcher: its options, the number of processes and the GPUs that they see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from harness.core.cells import Severity
from harness.preflight.command.call import TrainerCall
from harness.preflight.command.launchers import NODES, PROCESSES, TRAINER_FILE, Launch
from harness.preflight.command.words import Word, text_of
from harness.preflight.findings import Place, PreflightFinding

_DEVICE = re.compile(r"^(\d+|GPU-[\w-]+|MIG-[\w/-]+)$")
_HERE = ("127.0.0.1", "localhost", "0.0.0.0")  # noqa: S104 - addresses that a script names


def number(word: Word | None) -> int | None:
    """An option's whole number; None where it is not given, not known or none."""
    return int(word.text) if word is not None and word.known and re.fullmatch(r"\d{1,6}", word.text) else None


def processes(launch: Launch) -> int | None:
    """How many processes the launcher starts on this machine, where that is known."""
    if launch.launcher not in (*PROCESSES, "python", ""):
        return None
    if launch.launcher not in PROCESSES:
        return 1 if launch.trainer is not None and launch.entry is not None else None
    word = launch.options.get(PROCESSES[launch.launcher])
    if word is None:
        return 1 if launch.launcher == "torchrun" else None
    return number(word)


def trainer_text(launch: Launch) -> str:
    """The trainer as it is called; empty where it is not known."""
    if launch.trainer is None or not launch.trainer.known:
        return ""
    return f"-m {launch.trainer.text}" if launch.module else launch.trainer.text


def findings(call: TrainerCall) -> Iterator[PreflightFinding]:
    """Of a script."""
    unset = call.command.unset or call.false_defaults or any(word.unset for word in call.launch.options.values())
    for finding in of_words(call.launch) if not unset else ():
        line = finding.place.line or call.command.line
        yield replace(finding, place=call.place(line, finding.place.key))
    yield from _devices(call)


def of_words(launch: Launch) -> Iterator[PreflightFinding]:
    """What is seen in the launcher's words alone."""
    yield from _trainer(launch)
    yield from _local_rank(launch)
    yield from _numbers(launch)
    yield from _nodes(launch)


def _finding(
    severity: Severity, rule: str, message: str, line: int, evidence: tuple[str, ...], remedy: str
) -> PreflightFinding:
    place = Place(line=line or None)
    return PreflightFinding(
        severity=severity, rule=rule, message=message, place=place, evidence=evidence, remedy=remedy
    )


def _is_options(word: Word) -> bool:
    """Whether the word in the trainer's place is all options of the launcher, in quotes."""
    return "\n" in word.text or re.match(r"\s*-", word.text) is not None


def _trainer(launch: Launch) -> Iterator[PreflightFinding]:
    """The word in the place of the trainer's file."""
    word = launch.trainer
    if not launch.launcher:
        if word is not None and word.known and word.text.endswith(".py"):
            message = "the trainer's file is called itself, without torchrun or python: it is not executable"
            remedy = f"torchrun --nproc_per_node 1 {word.text}"
            yield _finding(Severity.BROKEN, "trainer-without-launcher", message, word.line, (word.text,), remedy)
        return
    if word is None:
        message = f"{launch.launcher} is given no trainer: it stops at once"
        remedy = "name the trainer on the same command: … funasr/bin/train_ds.py \\"
        yield _finding(Severity.BROKEN, "launcher-without-trainer", message, 0, (), remedy)
    elif word.unknown:
        return
    elif _is_options(word):
        message = f"the options of {launch.launcher} arrive as one word, which it takes for the trainer's file"
        remedy = "$DISTRIBUTED_ARGS without quotes"
        yield _finding(Severity.BROKEN, "launcher-options-quoted", message, word.line, (repr(word.text[:80]),), remedy)
    elif launch.entry is None and launch.words and TRAINER_FILE.search(launch.words[0].text):
        joined = f"{word.text} {launch.words[0].text}"
        message = f"a blank in the trainer's path makes two words of it: {launch.launcher} looks for {word.text}"
        yield _finding(Severity.BROKEN, "trainer-path-with-blank", message, word.line, (joined,), f'"{joined}"')
    elif word.text.startswith("+") or (launch.entry is None and "=" in word.text):
        message = f"{launch.launcher} takes the first setting for the trainer's file: no trainer is named before it"
        remedy = f"{launch.launcher} … funasr/bin/train_ds.py {word.text}"
        yield _finding(Severity.BROKEN, "launcher-without-trainer", message, word.line, (word.text,), remedy)
    elif launch.module and launch.entry is None and word.text.endswith(".py"):
        message = "-m wants a module's name, and a file is given"
        module = word.text.removesuffix(".py").lstrip("./").replace("/", ".")
        yield _finding(Severity.BROKEN, "file-given-as-module", message, word.line, (word.text,), f"-m {module}")
    elif not launch.module and launch.entry is None and word.text in ("funasr.bin.train", "funasr.bin.train_ds"):
        message = f"{launch.launcher} takes the module's name for a file"
        yield _finding(Severity.BROKEN, "module-given-as-file", message, word.line, (word.text,), f"-m {word.text}")


def _local_rank(launch: Launch) -> Iterator[PreflightFinding]:
    if launch.adds_local_rank:
        name = "deepspeed" if launch.launcher == "deepspeed" else "torch.distributed.launch"
        option = "--no_local_rank" if launch.launcher == "deepspeed" else "--use_env"
        message = f"{name} gives each process a --local-rank, which hydra refuses: no process starts training"
        remedy = f"torchrun in its place, or {name} {option} …"
        evidence = ("error: unrecognized arguments: --local-rank=0",)
        line = launch.trainer.line if launch.trainer else 0
        yield _finding(Severity.BROKEN, "launcher-adds-local-rank", message, line, evidence, remedy)


def _numbers(launch: Launch) -> Iterator[PreflightFinding]:
    """Options that must be numbers."""
    names = {PROCESSES.get(launch.launcher): r"\d+|auto|gpu|cpu|xpu", "master-port": r"\d+", "node-rank": r"\d+"}
    if launch.launcher == "torchrun":
        names["nnodes"] = r"\d+(:\d+)?"
    for name, pattern in names.items():
        word = launch.options.get(name or "")
        if word is None or word.unknown or (word.unset and not word.text):
            continue
        zero = name == PROCESSES.get(launch.launcher) and word.text == "0"
        if not re.fullmatch(pattern, word.text) or zero or (name == "master-port" and int(word.text) > 65535):
            message = f"--{(name or '').replace('-', '_')} is {word.text!r}, which {launch.launcher} cannot use"
            remedy = f"--{(name or '').replace('-', '_')} {'29500' if name == 'master-port' else '1'}"
            if zero:
                remedy += ", or set CUDA_VISIBLE_DEVICES above the line that counts it"
            yield _finding(Severity.BROKEN, "launcher-option", message, word.line, (word.text[:80],), remedy)


def _nodes(launch: Launch) -> Iterator[PreflightFinding]:
    """Several machines that are to meet at an address of this one only."""
    nodes = number(launch.options.get(NODES.get(launch.launcher, "")))
    rank = number(launch.options.get("node-rank"))
    if (
        launch.launcher != "torchrun"
        or nodes is None
        or launch.options.get("rdzv-endpoint")
        or "standalone" in launch.options
    ):
        return
    address = launch.options.get("master-addr")
    if nodes > 1 and (address is None or address.text in _HERE):
        word = launch.options["nnodes"]
        message = f"torchrun waits for {nodes} machines at an address that only this one can reach, and trains nothing"
        evidence = (f"--nnodes {nodes} --master_addr {address.text if address else '127.0.0.1 (default)'}",)
        yield _finding(Severity.BROKEN, "waits-for-machines", message, word.line, evidence, "--nnodes 1")
    elif rank is not None and rank >= nodes > 0:
        message = f"--node_rank {rank} is none of {nodes} machine{'s' if nodes > 1 else ''}: they are counted from 0"
        line = launch.options["node-rank"].line
        yield _finding(
            Severity.BROKEN, "node-rank", message, line, (f"--nnodes {nodes} --node_rank {rank}",), "--node_rank 0"
        )


def _devices(call: TrainerCall) -> Iterator[PreflightFinding]:
    name = "CUDA_VISIBLE_DEVICES"
    value = call.command.exported.get(name)
    if value is None and name in call.command.unexported:
        yield PreflightFinding(
            severity=Severity.MINOR,
            rule="devices-not-exported",
            message=f"{name} is set and not exported: the trainer does not see it and takes the first GPUs",
            place=call.place(call.command.line, name),
            remedy=f"export {name}=…",
        )
        return
    text = text_of(value) if value is not None else None
    if text is None or value is None:
        return
    line = next((piece.line for piece in value), call.command.line)
    devices = [device.strip() for device in text.split(",")]
    on_cpu = any(override.key == "device" and override.value == "cpu" for override in call.hydra.overrides)
    fault = _device_fault(text, devices)
    if fault and not on_cpu:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="devices-unreadable",
            message=f"{name} is {text!r}: {fault}",
            place=call.place(line, name),
            remedy=f"export {name}={_numbers_in(text)}",
        )
    elif not fault:
        yield from _counts(call, devices, line)


def _numbers_in(text: str) -> str:
    """The GPUs that a text is about, each once; the first one where it names none."""
    return ",".join(dict.fromkeys(re.findall(r"(?<![\d-])\d+", text))) or "0"


def _device_fault(text: str, devices: list[str]) -> str:
    """Why CUDA finds no GPU, or fewer, by this text."""
    if not text.strip() or devices[0] in ("-1", "NoDevFiles", "none"):
        return "the trainer sees no GPU, and its default device is a GPU"
    if len(set(devices)) < len(devices) and all(map(_DEVICE.match, devices)):
        return "a GPU that is named twice makes CUDA see none"
    wrong = [device for device in devices if device and not _DEVICE.match(device)]
    return f"{wrong[0]!r} is no number of a GPU, and CUDA stops reading there" if wrong else ""


def _counts(call: TrainerCall, devices: list[str], line: int) -> Iterator[PreflightFinding]:
    started, visible = processes(call.launch), len([device for device in devices if device])
    on_cpu = any(override.key == "device" and override.value == "cpu" for override in call.hydra.overrides)
    quoted = call.launch.trainer is not None and _is_options(call.launch.trainer)
    if not started or started == visible or call.launch.launcher == "deepspeed" or on_cpu or quoted:
        return
    option = call.launch.options.get(PROCESSES.get(call.launch.launcher, ""))
    name = PROCESSES.get(call.launch.launcher, "nproc-per-node").replace("-", "_")
    if started > visible:
        message = (
            f"{started} processes are started and {visible} GPU{'s are' if visible != 1 else ' is'} visible: "
            f"process {visible} requests a GPU that does not exist (invalid device ordinal), and all stop"
        )
    else:
        trains = "es train" if started != 1 else " trains"
        message = f"{started} process{trains}, and {visible} GPUs are visible: the rest is idle"
    yield PreflightFinding(
        severity=Severity.BROKEN if started > visible else Severity.MINOR,
        rule="more-processes-than-gpus" if started > visible else "idle-gpus",
        message=message,
        place=call.place(option.line if option else call.command.line, name),
        evidence=(f"line {line}: CUDA_VISIBLE_DEVICES={','.join(devices)}", f"--{name} {started}"),
        remedy=f"--{name} {visible}" if call.launch.launcher in PROCESSES else f"torchrun --nproc_per_node {visible} …",
    )
