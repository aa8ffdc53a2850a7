"""Which of a user's rows reach a training step, seen through a dataset as FunASR's are."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from own_scene import write_rows

from harness.worker.trainer.received_rows import ReceivedRowsRecorder, lines_of

ROWS = [{"source": f"{n}.wav", "target": f"字 {n}", "source_len": n} for n in range(6)]
LINES = [2, 3, 5, 7, 8, 9]


def release_in_miniature(kept: list[dict[str, Any]], *, replaces: dict[int, int]) -> Any:
    """Datasets as FunASR has them; `replaces` says which row is read in place of which."""

    class Index:
        def __init__(self) -> None:
            self.contents = kept

        def __getitem__(self, number: int) -> Any:
            return self.contents[number]

    class Dataset:
        def __init__(self) -> None:
            self.index_ds = Index()

        def get_source_len(self, number: int) -> Any:
            return self.index_ds[number]["source_len"]

        def __getitem__(self, number: int) -> Any:
            self.index_ds[number]
            return self.index_ds[replaces.get(number, number)]

    tables = types.SimpleNamespace(
        index_ds_classes={"A": Index, "B": Index}, dataset_classes={"Dataset": Dataset, "made_by": lambda: None}
    )
    sys.modules["funasr"] = types.ModuleType("funasr")
    sys.modules["funasr.register"] = types.ModuleType("funasr.register")
    sys.modules["funasr.register"].tables = tables  # type: ignore[attr-defined]
    return Dataset


def train(
    path: str, kept: list[dict[str, Any]], batches: list[list[int]], replaces: dict[str, int], reads: bool
) -> dict[str, Any]:
    """Epochs of these batches, each followed by a validation over everything."""
    import torch

    class Model(torch.nn.Module):  # type: ignore[misc]
        def forward(self, batch: Any) -> Any:
            return batch

    dataset_class = release_in_miniature(kept, replaces={int(one): other for one, other in replaces.items()})
    arriving, network = ReceivedRowsRecorder(), Model()
    arriving.attach(Model)
    train_set, valid_set = dataset_class(), dataset_class()
    for _epoch in range(2):
        network.train()
        for batch in batches:
            for number in batch:
                train_set.get_source_len(number)
            network([train_set[number] for number in batch] if reads else None)
        network.eval()
        with torch.no_grad():
            network([valid_set[number] for number in range(len(kept))])
    return arriving.metrics(path, LINES, [2, 3, 5, 7, 9], 2)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(write_rows(tmp_path / "rows.jsonl", *ROWS))


ALL = [[0, 1], [2, 3], [4]]
LEFT_OUT = [row for row in ROWS if row["source_len"] != 4]


def test_rows_that_arrive_are_counted_by_their_lines(forked: Forked, path: str) -> None:
    found = forked(train, path=path, kept=LEFT_OUT, batches=ALL, replaces={}, reads=True)
    assert found.pop("sha256")
    assert found == {
        "listed": 6, "expected": 5, "arrived": 5, "missed": [], "missed_count": 0, "unforeseen": [],
    }  # fmt: skip


def test_a_row_that_no_batch_holds_is_missed_though_it_is_validated_on(forked: Forked, path: str) -> None:
    found = forked(train, path=path, kept=LEFT_OUT, batches=ALL[:2], replaces={}, reads=True)
    assert found["missed"] == [{"line": 9, "times": 0}]
    assert (found["arrived"], found["missed_count"]) == (4, 1)


def test_a_row_in_whose_place_another_is_read_is_missed(forked: Forked, path: str) -> None:
    found = forked(train, path=path, kept=LEFT_OUT, batches=ALL, replaces={"1": 0}, reads=True)
    assert found["missed"] == [{"line": 3, "times": 0}]


def test_a_row_that_should_be_left_out_and_arrives_is_named(forked: Forked, path: str) -> None:
    found = forked(train, path=path, kept=ROWS, batches=[*ALL, [5]], replaces={}, reads=True)
    assert found["unforeseen"] == [8]
    assert found["missed_count"] == 0


def test_where_another_process_loads_nothing_is_said_to_be_missed(forked: Forked, path: str) -> None:
    found = forked(train, path=path, kept=ROWS, batches=ALL, replaces={}, reads=False)
    assert set(found) == {"sha256", "listed", "expected"}


def test_rows_of_another_file_have_no_line(forked: Forked, path: str) -> None:
    kept = [{**ROWS[0], "target": "别的"}]
    found = forked(train, path=path, kept=kept, batches=[[0]], replaces={}, reads=True)
    assert "missed" not in found


def test_changed_paths_and_spaces_are_the_rows_and_equal_rows_keep_their_order(tmp_path: Path) -> None:
    rows = [{"source": "/cpfs01/a.wav", "target": "a b"}, {"key": "no source"}, *[{"source": "b", "target": "c"}] * 2]
    path = str(write_rows(tmp_path / "rows.jsonl", *rows))
    kept = [
        {"source": "/cpfs_speech/data/a.wav", "target": "ab", "source_len": 1},
        *[{"source": "b", "target": "c", "source_len": 1}] * 2,
    ]
    assert lines_of(kept, path, [1, 2, 3, 4]) == [1, 3, 4]
    assert lines_of([kept[1], kept[0]], path, [1, 2, 3, 4]) is None
    assert lines_of(["a text"], path, [1, 2, 3, 4]) is None
    assert lines_of(None, path, [1, 2, 3, 4]) is None
