"""A release's code is read once for all files of the same content, and again where one has changed."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from harness.preflight.code import listing, source_file
from harness.preflight.code.release_code import Definition, ReleaseCode
from harness.preflight.keys.follow import read_keys
from harness.preflight.settings import SettingsInForce

MAIN = """
from funasr.train_utils.trainer import Trainer
def main_hydra(cfg):
    main(**cfg)
def main(**kwargs):
    Trainer(**kwargs.get("train_conf"))
"""
TRAINER = "class Trainer:\n    def __init__(self, **kwargs):\n        self.epochs = kwargs.get('max_epoch', 100)\n"
ENCODER = '@tables.register("encoder_classes", "Encoder")\nclass Encoder(Base):\n    pass\n'


def release(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "funasr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def code(install_dir: Path, cache: Path) -> ReleaseCode:
    return ReleaseCode(root=install_dir / "funasr", cache=cache)


def read(install_dir: Path, cache: Path) -> set[str]:
    nothing = SettingsInForce()
    return set(read_keys(code(install_dir, cache), "train_ds", nothing, nothing, cache=cache).read)


def test_a_base_is_found_by_name_by_module_and_where_it_is_passed_on(tmp_path: Path) -> None:
    files = {
        "models/base.py": "class Base:\n    def forward(self): ...\n",
        "models/__init__.py": "from .base import Base\n",
        "models/named.py": "from funasr.models import Base\nclass Named(Base): ...\n",
        "models/dotted.py": "import funasr.models.base as b\nclass Dotted(b.Base): ...\n",
        "models/odd.py": "from funasr.models import Missing\nclass Odd(Missing): ...\n",
    }
    own = code(release(tmp_path / "1.0", files), tmp_path)
    for file, name in (("named", "Named"), ("dotted", "Dotted")):
        one = Definition(file=own.root / f"models/{file}.py", name=name)
        assert [owner.name for owner, _ in own.lineage(one)] == [name, "Base"]
        assert own.whole_lineage(one)
        assert own.method(one, "forward") is not None
    assert not own.whole_lineage(Definition(file=own.root / "models/odd.py", name="Odd"))


def test_files_are_listed_from_the_cache_and_read_again_where_they_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_dir = release(tmp_path / "1.0", {"models/e.py": ENCODER, "other.py": "x = 1\n"})
    assert code(install_dir, tmp_path).names("encoder_classes") == ("Encoder",)
    asked: list[str] = []

    def counted(path: Path, digest: str = "") -> source_file.SourceFile | None:
        asked.append(path.name)
        return source_file.source_file(path, digest)

    monkeypatch.setattr(listing, "source_file", counted)
    assert code(install_dir, tmp_path).names("encoder_classes") == ("Encoder",)
    assert asked == []
    (install_dir / "funasr/models/e.py").write_text(ENCODER.replace("Encoder", "Encodes"), encoding="utf-8")
    os.utime(install_dir / "funasr/models/e.py", ns=(1, 1))
    assert code(install_dir, tmp_path).names("encoder_classes") == ("Encodes",)
    assert asked == ["e.py"]
    (stored,) = (tmp_path / "preflight" / "code").iterdir()
    stored.write_text('{"models/e.py": [1]}', encoding="utf-8")
    assert code(install_dir, tmp_path).names("encoder_classes") == ("Encodes",)


def test_releases_with_the_same_code_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text: parsed.append(text) or parse(text))
    for version in ("1.0", "1.1"):
        own = code(release(tmp_path / version, {"a.py": f"only_here = {tmp_path.name!r}\n"}), tmp_path)
        assert own.tree(own.root / "a.py") is not None
    assert len(parsed) == 1


def test_a_reading_holds_for_another_release_with_the_same_code_and_for_no_other(tmp_path: Path) -> None:
    files = {"bin/train_ds.py": MAIN, "train_utils/trainer.py": TRAINER}
    assert "train_conf.max_epoch" in read(release(tmp_path / "1.0", files), tmp_path)
    kept = tmp_path / "preflight" / "keys"
    before = {one: one.read_bytes() for one in kept.iterdir()}
    # What no training comes to may differ.
    assert "train_conf.max_epoch" in read(release(tmp_path / "1.1", {**files, "other.py": "x = 1"}), tmp_path)
    assert {one: one.read_bytes() for one in kept.iterdir()} == before
    changed = {**files, "train_utils/trainer.py": TRAINER.replace("max_epoch", "epochs")}
    found = read(release(tmp_path / "1.2", changed), tmp_path)
    assert "train_conf.epochs" in found
    assert "train_conf.max_epoch" not in found
