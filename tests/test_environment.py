"""The stack: what an interpreter can do is found out from outside, and torchaudio's trap is stepped over."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import StackError
from harness.environments.environment import (
    LIBRARIES,
    WITHOUT_NATIVE_LIBRARIES,
    Environment,
    probe,
    scrubbed_environment,
)

TORCH = """
__version__ = "{version}"

class version:
    cuda = {cuda!r}

class cuda:
    is_available = staticmethod(lambda: {cuda!r} is not None)
    device_count = staticmethod(lambda: 2)
    get_device_name = staticmethod("GPU {{}}".format)

class _Wave:
    def unsqueeze(self, dim):
        return self

def linspace(start, end, steps):
    return _Wave()
"""
# Fails with its native library beside it, as the real one does on a CPU build of torch, and does without it.
TORCHAUDIO = """
import os
library = os.path.join(os.path.dirname(__file__), "lib", "libtorchaudio.so")
if os.path.exists(library):
    raise OSError("libc10_cuda.so: cannot open shared object file")
"""
KALDI = """
class _Features:
    shape = (98, {mels})

def fbank(wave, num_mel_bins, sample_frequency):
    return _Features()
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter with nothing installed."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    return tmp_path / "venv" / "bin" / "python"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def plant(python: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """Install a package of a few files into the interpreter."""
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    for file, text in {"__init__.py": "", **files}.items():
        path = packages / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    metadata = packages / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(exist_ok=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return packages


def plant_torch(python: Path, *, cuda: str | None = None, version: str = "2.13.0+cpu") -> None:
    plant(python, "torch", version, {"__init__.py": TORCH.format(version=version, cuda=cuda)})


def plant_torchaudio(python: Path, *, start: str = TORCHAUDIO, native: bool = True, mels: int = 80) -> None:
    files = {"__init__.py": start, "compliance/__init__.py": "", "compliance/kaldi.py": KALDI.format(mels=mels)}
    files["lib/__init__.py"] = ""
    if native:
        files["lib/libtorchaudio.so"] = "native"
    plant(python, "torchaudio", "2.11.0", files)


def test_a_gpu_stack_is_described_and_left_as_it_is(python: Path, cache: Path) -> None:
    plant_torch(python, cuda="13.0", version="2.11.0")
    plant_torchaudio(python, native=False)
    stack = probe(python, cache=cache)
    assert (stack.torch_version, stack.cuda_version, stack.cuda_available) == ("2.11.0", "13.0", True)
    assert stack.gpu_names == ("GPU 0", "GPU 1")
    assert dict(stack.libraries) == {"torch": "2.11.0", "torchaudio": "2.11.0"}
    assert stack.python_version == ".".join(str(part) for part in sys.version_info[:3])
    assert (stack.torchaudio_imports, stack.extra_paths, stack.shims) == (True, (), ())
    assert [path.name for path in cache.iterdir()] == ["bytecode"]
    assert not list((python.parent.parent / "lib").rglob("__pycache__"))


def test_libraries_that_are_brought_along_are_seen_and_listed(
    python: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_torch(python)
    plant_torchaudio(python)
    metadata = tmp_path / "brought" / "six-1.17.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: six\nVersion: 1.17.0\n")
    monkeypatch.setenv(LIBRARIES, str(tmp_path / "brought"))
    stack = probe(python, cache=cache)
    assert stack.libraries["six"] == "1.17.0"
    # The copy of torchaudio comes before them.
    assert stack.extra_paths == (cache / "stack" / "torchaudio-2.11.0-torch-2.13.0+cpu", tmp_path / "brought")


def test_on_a_cpu_torch_a_torchaudio_without_its_native_libraries_is_installed_once(python: Path, cache: Path) -> None:
    plant_torch(python)
    plant_torchaudio(python)
    stack = probe(python, cache=cache)
    (place,) = stack.extra_paths
    assert (stack.torchaudio_imports, stack.shims) == (False, (WITHOUT_NATIVE_LIBRARIES,))
    assert not list(place.rglob("*.so"))
    before = (place / "torchaudio" / "__init__.py").stat().st_mtime_ns
    assert probe(python, cache=cache) == stack
    assert (place / "torchaudio" / "__init__.py").stat().st_mtime_ns == before
    assert list(python.parent.parent.rglob("libtorchaudio.so"))


@pytest.mark.parametrize("fault", [{"mels": 23}, {"start": "raise ImportError('no such symbol')"}])
def test_a_torchaudio_that_does_not_work_even_so_is_reported_and_not_kept(
    python: Path, cache: Path, fault: dict[str, str]
) -> None:
    plant_torch(python)
    plant_torchaudio(python, **{"start": TORCHAUDIO, **fault})  # type: ignore[arg-type]
    with pytest.raises(StackError, match="nor does a copy of it"):
        probe(python, cache=cache)
    assert not (cache / "stack").exists()


def test_a_torchaudio_that_ends_the_interpreter_is_one_that_does_not_import(python: Path, cache: Path) -> None:
    plant_torch(python)
    plant_torchaudio(python, start=TORCHAUDIO.replace("raise OSError(", "os.abort() or print("))
    assert probe(python, cache=cache).shims == (WITHOUT_NATIVE_LIBRARIES,)


def test_a_torchaudio_that_does_not_fit_a_gpu_torch_is_the_users_to_replace(python: Path, cache: Path) -> None:
    plant_torch(python, cuda="13.0")
    plant_torchaudio(python)
    with pytest.raises(StackError, match="libc10_cuda"):
        probe(python, cache=cache)


def test_a_missing_torch_is_reported_with_the_next_step(python: Path, cache: Path) -> None:
    with pytest.raises(StackError, match="has no torch") as caught:
        probe(python, cache=cache)
    assert f"{python} -m pip install torch" in str(caught.value)


def test_a_missing_torchaudio_is_reported(python: Path, cache: Path) -> None:
    plant_torch(python)
    with pytest.raises(StackError, match="has no torchaudio"):
        probe(python, cache=cache)


@pytest.mark.parametrize(
    ("start", "told"),
    [("raise OSError('libcudart.so.13: cannot open')", "libcudart"), ("import os; os._exit(0)", "ended the")],
)
def test_a_torch_that_does_not_import_is_reported_with_its_error(
    python: Path, cache: Path, start: str, told: str
) -> None:
    plant(python, "torch", "2.11.0", {"__init__.py": start})
    with pytest.raises(StackError, match=f"torch does not import in(.|\n)*{told}"):
        probe(python, cache=cache)


@pytest.mark.parametrize("path", ["absent", "not-python"])
def test_what_is_no_interpreter_is_reported(tmp_path: Path, path: str) -> None:
    (tmp_path / "not-python").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "not-python").chmod(0o755)
    with pytest.raises(StackError, match=path):
        probe(tmp_path / path, cache=tmp_path)


def test_an_interpreter_is_found_by_its_name_too(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_torch(python)
    plant_torchaudio(python, native=False)
    monkeypatch.setenv("PATH", str(python.parent))
    assert probe("python", cache=tmp_path).python == python


@pytest.fixture
def stack(python: Path) -> Environment:
    return Environment(
        python=python,
        python_version="3.11.7",
        torch_version="2.13.0+cpu",
        cuda_version=None,
        cuda_available=False,
        gpu_names=(),
        libraries={},
        torchaudio_imports=True,
        user_base=None,
        extra_paths=(python.parent / "extra",),
    )


def test_the_environment_of_releases_has_nothing_of_the_users_but_what_it_needs(
    stack: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "HTTPS_PROXY", "http_proxy", "SECRET_TOKEN", "PYTHONHOME"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/driver")
    environment = scrubbed_environment(stack, tmp_path / "work")
    assert not {"WORLD_SIZE", "RANK", "LOCAL_RANK", "SECRET_TOKEN", "PYTHONHOME"} & set(environment)
    assert not [name for name in environment if "proxy" in name.lower()]
    assert "/of/the/user" not in environment["PYTHONPATH"]
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["LD_LIBRARY_PATH"]) == ("3", "/opt/driver")
    assert environment["PATH"] == os.environ["PATH"]
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "MODELSCOPE_CACHE", "HF_HOME", "NUMBA_CACHE_DIR"):
        assert Path(environment[name]).is_dir()
        assert Path(environment[name]).is_relative_to(tmp_path / "work")
    expected = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    assert expected.items() <= environment.items()
    assert scrubbed_environment(stack, tmp_path / "work") == environment


def test_the_users_own_packages_stay_visible_although_home_is_another(stack: Environment, tmp_path: Path) -> None:
    assert "PYTHONUSERBASE" not in scrubbed_environment(stack, tmp_path)
    environment = scrubbed_environment(replace(stack, user_base="/home/somebody/.local"), tmp_path)
    assert environment["PYTHONUSERBASE"] == "/home/somebody/.local"


def test_the_inside_is_found_from_anywhere_with_the_stacks_packages_and_no_others(
    stack: Environment, tmp_path: Path
) -> None:
    packages = plant(stack.python, "numpy", "1.0", {})
    extra = stack.extra_paths[0] / "torchaudio"
    extra.mkdir(parents=True)
    (extra / "__init__.py").write_text("")
    # A checkout in the current folder is not what is meant by `import funasr`.
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "funasr").mkdir(parents=True)
    code = (
        "import importlib.util as u, harness.worker, numpy, torchaudio\n"
        "print(numpy.__file__, torchaudio.__file__, *(u.find_spec(n) for n in ('funasr', 'tests', 'pytest')))"
    )
    done = subprocess.run(
        [str(stack.python), "-c", code],
        env=scrubbed_environment(stack, tmp_path / "work"),
        cwd=elsewhere,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [f"{packages}/numpy/__init__.py", f"{extra}/__init__.py", "None", "None", "None"]


@pytest.mark.release
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="this interpreter has no torch")
def test_the_real_torchaudio_computes_features_on_this_stack(tmp_path: Path) -> None:
    stack = probe(cache=tmp_path / "cache")
    assert stack.libraries["torch"].split("+")[0] == stack.torch_version.split("+")[0]
    code = (
        "import torch, torchaudio.compliance.kaldi as kaldi\n"
        "print(kaldi.fbank(torch.randn(1, 16000), num_mel_bins=80).shape[1])"
    )
    done = subprocess.run(
        [str(stack.python), "-c", code],
        env=scrubbed_environment(stack, tmp_path / "work"),
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "80"
