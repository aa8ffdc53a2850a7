"""`cells`: what a matrix would run."""

from __future__ import annotations

import argparse

from harness.commands.common import read_cells, take_shard
from harness.environments.environment import gpu_present


def main(options: argparse.Namespace) -> int:
    """Print one id a line."""
    matrix, cells = read_cells(options, gpu_present=gpu_present())
    _, cells = take_shard(options, matrix, cells)
    for cell in cells:
        print(cell.id)
    return 0
