"""Nothing of this machine's folders gets into an outcome."""

from __future__ import annotations

from pathlib import Path

import pytest
from execute_scene import make_cell

from harness.core.cells import Failure, Frame, Outcome, Status
from harness.run.scrub import Scrubber

INSTALL_DIR = Path("/data/cache/layouts/1.4.16-ab")


@pytest.fixture
def scrub(monkeypatch: pytest.MonkeyPatch) -> Scrubber:
    monkeypatch.setenv("HOME", "/home/mira")
    return Scrubber.of(
        install_dirs=[INSTALL_DIR, Path("/data/cache/layouts/1.4.16")],
        places={"/data/cache": "<cache>"},
        workspace=Path("/var/runs/7"),
    )


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/data/cache/layouts/1.4.16-ab/funasr/train.py", "funasr/train.py"),
        ("/data/cache/layouts/1.4.16/funasr/train.py", "funasr/train.py"),
        ("/data/cache/layouts/1.4.160/funasr/train.py", "<cache>/layouts/1.4.160/funasr/train.py"),
        ("in /data/cache/layouts/1.4.16: x", "in .: x"),
        ("see /var/runs/7.", "see <workspace>."),
        ("/data/cache", "<cache>"),
        ("/data/cachet/x.wav", "<elsewhere>/x.wav"),
        ("/var/runs/7/scratch/3/model.pt", "<workspace>/scratch/3/model.pt"),
        ("'/home/mira/data/a b.wav'", "'~/data/a b.wav'"),
        ("-I/home/mira/include", "-I~/include"),
        ("file:///home/mira/x", "~/x"),
        ("/opt/v/lib/python3.11/site-packages/torch/nn/modules/module.py", "torch/nn/modules/module.py"),
        ("/usr/lib/python3/dist-packages/yaml/__init__.py", "yaml/__init__.py"),
        ("/opt/py/lib/python3.11/threading.py:3", "python3.11/threading.py:3"),
        ("/home/mira/.pyenv/lib/python3.12/json/decoder.py", "python3.12/json/decoder.py"),
        ("No such file: '/mnt/disk3/speech/0001.wav'", "No such file: '<elsewhere>/0001.wav'"),
        ("/proc/self/maps and /dev/null and /usr/bin/ffmpeg", "/proc/self/maps and /dev/null and /usr/bin/ffmpeg"),
        ("https://github.com/modelscope/FunASR/issues/1478", "https://github.com/modelscope/FunASR/issues/1478"),
        (
            "1.4.16/paraformer/v8404-h320/reduced/construct/cpu-fp32",
            "1.4.16/paraformer/v8404-h320/reduced/construct/cpu-fp32",
        ),
        ("loss 3/4, 10 m/s, and/or", "loss 3/4, 10 m/s, and/or"),
        (str(Path(__file__)), "tests/test_run_scrub.py"),
    ],
)
def test_folders_of_this_machine_are_replaced(scrub: Scrubber, text: str, clean: str) -> None:
    assert scrub.text(text) == clean


def test_scrubbing_twice_changes_nothing_more(scrub: Scrubber) -> None:
    once = scrub.text("/mnt/a/b.wav /home/mira/c /var/runs/7/d /data/cache/e /opt/v/lib/python3.11/site-packages/f.py")
    assert scrub.text(once) == once


def test_a_home_that_is_the_root_replaces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    scrub = Scrubber.of(install_dirs=[], places={}, workspace=Path("/var/runs/7"))
    assert scrub.text("a/b /proc/self") == "a/b /proc/self"


def test_places_behind_links_are_known_by_both_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    scrub = Scrubber.of(install_dirs=[tmp_path / "link"], places={}, workspace=Path("/var/runs/7"))
    assert scrub.text(f"{tmp_path}/link/funasr/a.py {tmp_path}/real/funasr/b.py") == "funasr/a.py funasr/b.py"


def test_every_string_of_an_outcome_is_scrubbed(scrub: Scrubber) -> None:
    path = f"{INSTALL_DIR}/funasr/a.py"
    outcome = Outcome(
        cell=make_cell(0),
        status=Status.FAILED,
        reason=f"in {path}",
        failure=Failure(
            type="E",
            message=f"m {path}",
            frames=(Frame(file=path, line=1, function="f", code=f"open('{path}')"),),
            signature=f"E@{path}:f",
        ),
        metrics={"losses": [1.0, None], "note": path},
        evidence={"files": [{path: path}], "log_tail": f"a\n{path}\n"},
    )
    clean = scrub.outcome(outcome)
    assert str(INSTALL_DIR) not in repr(clean)
    assert clean.failure is not None
    assert clean.failure.signature == "E@funasr/a.py:f"
    assert clean.evidence["files"] == [{"funasr/a.py": "funasr/a.py"}]
    assert clean.metrics["losses"] == [1.0, None]
