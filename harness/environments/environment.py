"""The Python environment: an interpreter with torch and third-party libraries, in which releases run.

torch is never imported here. The interpreter describes itself in a process of its own and writes its answer to a file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import harness
from harness.core import processes
from harness.core.errors import StackError
from harness.core.temporary import temporary_folder
from harness.releases.cache import default_cache, move_into_place, working_folder
from harness.releases.holdings import hold

WITHOUT_NATIVE_LIBRARIES = "torchaudio-without-native-libraries"
"""Name of the shim: torchaudio is imported from a copy that lacks `lib/*.so`, as its loader allows for."""

LIBRARIES = "FUNASR_HARNESS_LIBRARIES"
"""Environment variable: folders with libraries that the interpreter lacks, as a bundle brings them along."""

_DESCRIBE = Path(harness.__file__).parent / "worker" / "describe_environment.py"
_PATIENCE_SECONDS = 300.0
_THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM", "BLIS")
_PASSED_THROUGH = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME")
_FIXED = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    # Otherwise a checkout of FunASR in the current folder would be imported in a release's place.
    "PYTHONSAFEPATH": "1",
} | {f"{library}_NUM_THREADS": "1" for library in _THREADS}
_FOLDERS = {
    "HOME": "home",
    "TMPDIR": "tmp",
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "XDG_DATA_HOME": "data",
    "MODELSCOPE_CACHE": "cache/modelscope",
    "HF_HOME": "cache/huggingface",
    "TORCH_HOME": "cache/torch",
    "TRITON_CACHE_DIR": "cache/triton",
    "TORCHINDUCTOR_CACHE_DIR": "cache/inductor",
    "NUMBA_CACHE_DIR": "cache/numba",
    "MPLCONFIGDIR": "config/matplotlib",
}


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One interpreter and what it can import."""

    python: Path
    """The interpreter's executable."""
    python_version: str
    torch_version: str
    """With its local part: `2.13.0+cpu`."""
    cuda_version: str | None
    """What torch was built for; None for a CPU build."""
    cuda_available: bool
    """Whether torch can use a GPU here and now."""
    gpu_names: tuple[str, ...]
    """In the order of torch's device indices."""
    libraries: Mapping[str, str] = field(hash=False)
    """Versions of all installed distributions, by name."""
    torchaudio_imports: bool
    """Whether torchaudio imports as it is installed."""
    user_base: str | None
    """Where the interpreter looks for the user's own packages, which a changed HOME would hide."""
    extra_paths: tuple[Path, ...] = ()
    """To be put before the interpreter's own packages."""
    shims: tuple[str, ...] = ()
    """What was changed so that releases can run here."""


def probe(python: str | Path = sys.executable, *, cache: Path | None = None) -> Environment:
    """Look at an interpreter; takes as long as it takes to import torch.

    Args:
        python: The interpreter's executable, or its name on the user's path.
        cache: Where bytecode goes, and a copy of torchaudio if it needs one; the default cache if None.

    Raises:
        StackError: torch or torchaudio is missing or does not import.
        StoreError: the copy of torchaudio cannot be written.
    """
    # Not resolved: a virtual environment's interpreter is a link, and what it links to has other packages.
    python, cache = Path(shutil.which(python) or python).absolute(), cache or default_cache()
    brought = tuple(Path(folder).absolute() for folder in os.environ.get(LIBRARIES, "").split(os.pathsep) if folder)
    facts = _describe(python, (), brought, cache)
    torch = facts["torch"]
    if torch is None:
        raise _no_torch(python, facts["torch_error"], installed=any(n.lower() == "torch" for n in facts["libraries"]))
    stack = Environment(
        python=python,
        python_version=facts["python_version"],
        torch_version=torch["version"],
        cuda_version=torch["cuda"],
        cuda_available=torch["cuda_available"],
        gpu_names=tuple(torch["gpu_names"]),
        libraries=dict(sorted(facts["libraries"].items(), key=lambda item: item[0].lower())),
        torchaudio_imports=facts["torchaudio_error"] is None,
        user_base=facts["user_base"],
        extra_paths=brought,
    )
    if stack.torchaudio_imports:
        return stack
    return _adapt_torchaudio(stack, facts["torchaudio_folder"], facts["torchaudio_error"], cache)


def scrubbed_environment(stack: Environment, workspace: Path, *, cache: Path | None = None) -> dict[str, str]:
    """The environment of a release's processes: nothing of the user's but what reaches the GPU and the path.

    The folders that it names are made, and one with nothing in it but this package, by a link: so
    `python -m harness.worker` works from anywhere, and what is installed next to the harness stays invisible
    by another interpreter. Keep `workspace` short: sockets are made under TMPDIR, and their names may have 107 bytes.

    Args:
        stack: Its extra paths come first.
        workspace: A folder for this run; everything that a release writes by itself ends up in it.
        cache: Where bytecode, and what numba compiles, outlast the run; without it neither is kept.
            Compiling torch and its companions again costs a run most of a minute.
    """
    workspace = workspace.absolute()
    environment = _passed_through() | _FIXED
    for name, folder in _FOLDERS.items():
        place = workspace / folder
        place.mkdir(parents=True, exist_ok=True)
        environment[name] = str(place)
    if cache is not None:
        hold(cache)
        environment |= compiled_code(cache)
        del environment["PYTHONDONTWRITEBYTECODE"]
    if stack.user_base:
        environment["PYTHONUSERBASE"] = stack.user_base
    paths = [*stack.extra_paths, _folder_of_harness(workspace)]
    environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in paths)
    return environment


def compiled_code(cache: Path) -> dict[str, str]:
    """Environment variables that keep compiled code in the cache.

    Not next to the sources: the user's environment and the installed releases stay as they are.
    """
    return {
        "PYTHONPYCACHEPREFIX": str(cache.absolute() / "bytecode"),
        "NUMBA_CACHE_DIR": str(cache.absolute() / "numba"),
    }


def _folder_of_harness(workspace: Path) -> Path:
    folder = workspace / "path"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "harness"
    package = Path(harness.__file__).resolve().parent
    if not (link.is_symlink() and link.readlink() == package):
        # By rename: another process of the same run may be doing the same.
        draft = folder / f".harness-{os.getpid()}"
        draft.unlink(missing_ok=True)
        draft.symlink_to(package, target_is_directory=True)
        draft.replace(link)
    return folder


def _passed_through() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_THROUGH if name in os.environ}


def _adapt_torchaudio(stack: Environment, folder: str | None, error: str, cache: Path) -> Environment:
    """The stack with a torchaudio that imports.

    The package index carries torchaudio for CUDA only; on a CPU build of torch its native libraries
    miss `libc10_cuda.so`. Without the files its loader works without them, and `compliance.kaldi`,
    all that FunASR uses, is Python.
    """
    if folder is None:
        raise StackError(
            f"{stack.python} has no torchaudio, which FunASR leaves to its users to install",
            next_step=f"{stack.python} -m pip install torchaudio, in the version that goes with torch",
        )
    if stack.cuda_version is not None:
        raise StackError(
            f"torchaudio does not import in {stack.python}\n    {error}",
            cause=f"it was built for another torch than {stack.torch_version}",
            next_step="install the torchaudio that goes with this torch",
        )
    version = next((v for name, v in stack.libraries.items() if name.lower() == "torchaudio"), "unknown")
    # Another torch may come to the same torchaudio, so the trial below is made for each pair.
    place = cache / "stack" / f"torchaudio-{version}-torch-{stack.torch_version}"
    if not place.is_dir():
        with working_folder(cache) as folder_in_cache:
            without_libraries = folder_in_cache / place.name
            shutil.copytree(folder, without_libraries / "torchaudio", ignore=_native_libraries)
            _try_fbank(stack.python, (without_libraries, *stack.extra_paths), error, cache)
            move_into_place(without_libraries, place)
    return replace(stack, extra_paths=(place, *stack.extra_paths), shims=(WITHOUT_NATIVE_LIBRARIES,))


def _native_libraries(folder: str, names: list[str]) -> list[str]:
    native = Path(folder).name == "lib"
    return [name for name in names if name == "__pycache__" or (native and name.endswith(".so"))]


def _try_fbank(python: Path, paths: tuple[Path, ...], error: str, cache: Path) -> None:
    try:
        shape = _describe(python, ("fbank",), paths, cache)["shape"]
    except StackError as trouble:
        shape, error = None, trouble.what
    if not shape or shape[-1] != 80:
        raise StackError(
            f"torchaudio does not work in {python}, nor does a copy of it without its native libraries\n    {error}",
            cause="it is damaged, or too new or too old for the torch that is installed with it",
            next_step="install the torchaudio that goes with this torch",
        )


def _describe(python: Path, arguments: tuple[str, ...], extra_paths: tuple[Path, ...], cache: Path) -> dict[str, Any]:
    """Run `describe_environment.py` in an interpreter and read its answer."""
    with temporary_folder("stack") as folder:
        result = folder / "result.json"
        # The user's own HOME, so that packages of their own are found; their PYTHONPATH is not part of an environment.
        environment = _passed_through() | _FIXED | {"HOME": str(Path.home()), "TMPDIR": str(folder)}
        environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in extra_paths)
        # torch is compiled here once, and a run's processes find it compiled.
        environment |= compiled_code(cache)
        del environment["PYTHONDONTWRITEBYTECODE"]
        oom_kills = processes.oom_kills()
        try:
            completed = subprocess.run(
                [str(python), str(_DESCRIBE), str(result), *arguments],
                check=False,
                capture_output=True,
                text=True,
                env=environment,
                cwd=folder,
                timeout=_PATIENCE_SECONDS,
            )
        except OSError as error:
            problem = f"{python} cannot be started: {error.strerror}"
            raise StackError(problem, next_step="give the path of a Python interpreter that has torch") from None
        except subprocess.TimeoutExpired:
            problem = f"{python} did not finish importing torch in {_PATIENCE_SECONDS:.0f} seconds"
            raise StackError(problem, cause="the disk or the GPU driver hangs") from None
        if completed.returncode == -signal.SIGKILL:
            raise _killed(python, by_kernel=processes.oom_kills() > oom_kills)
        try:
            answer: dict[str, Any] = json.loads(result.read_text("utf-8"))
        except (OSError, ValueError):
            last = "\n    ".join(completed.stderr.strip().splitlines()[-4:]) or f"exit status {completed.returncode}"
            raise StackError(f"{python} does not work\n    {last}", next_step="try it: is it Python?") from None
        return answer


def _killed(python: Path, *, by_kernel: bool) -> StackError:
    problem = f"{python} was ended by SIGKILL while it imported torch"
    if by_kernel:
        return StackError(
            problem,
            cause="the kernel had no memory left",
            next_step="give the machine or the container more memory, or end what else uses it",
        )
    return StackError(problem, cause="somebody killed it", next_step="run the same command again")


def _no_torch(python: Path, error: str, *, installed: bool) -> StackError:
    if installed:
        return StackError(
            f"torch does not import in {python}\n    {error}",
            cause="it is damaged, or a library that it needs is missing",
            next_step=f'try it: {python} -c "import torch"',
        )
    return StackError(
        f"{python} has no torch; releases cannot run without it",
        cause="the harness was installed without the `stack` extra, or this is not the interpreter that has torch",
        next_step=f"{python} -m pip install torch torchaudio, or name another interpreter",
    )


def gpu_present() -> bool:
    """Whether NVML finds at least one device; False without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    try:
        return int(pynvml.nvmlDeviceGetCount()) > 0
    except pynvml.NVMLError:
        return False
    finally:
        pynvml.nvmlShutdown()
