"""`python -m tests.watch_faults [--only GLOB]`: plant, train, watch, score."""

from __future__ import annotations

import argparse
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from forked import Forked
from watched_scene import ROOT, TrainingScene, scene

from harness.releases import default_cache, fetch, install_path, load_lock, resolve
from watch_faults import record
from watch_faults.catalogue import FAULTS, SOUND, Training
from watch_faults.measure import Outcome, pretrain, run, write_rows

RELEASE = "1.4.16"
LEAST_CAUGHT = 0.93
"""28 of 30."""


def main() -> int:
    """0 where enough faults were named with their severity, and no sound training was accused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="trainings whose name matches this glob")
    parser.add_argument("--room", type=Path, help="folder for the trainings, which stays (default: a temporary one)")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", metavar="DIR", help="for watched.json, .md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        room = options.room or Path(temporary)
        place = prepare(room)
        outcomes = [tried(place, one) for one in (*FAULTS, *SOUND) if fnmatchcase(one.name, options.only)]
        if not record.write(room, options.reports):
            print("no record was written: the folder has no outcome of some trainings")
    faults = [one for one in outcomes if one.training.expected]
    sound = [one for one in outcomes if not one.training.expected]
    caught, accused = sum(one.caught for one in faults), [one for one in sound if not one.caught]
    print(
        f"{caught} of {len(faults)} planted faults named with their severity, {len(accused)} of {len(sound)} sound "
        f"trainings accused"
    )
    return 0 if caught >= LEAST_CAUGHT * len(faults) and not accused else 1


def prepare(room: Path) -> TrainingScene:
    """A model that was trained before, rows, and faulty rows; what an earlier call has left is taken."""
    (release,) = resolve(RELEASE, load_lock(ROOT / "matrices" / "releases.lock.toml"))
    fetch([release], default_cache(), jobs=1)
    if (room / "pretraining" / "exp" / "model.pt").exists():
        return TrainingScene(room=room, install_dir=install_path(release, default_cache()), folder=room / "model")
    (room / "forked").mkdir(parents=True, exist_ok=True)
    server = Forked(room / "forked")
    try:
        place = scene(server, room, install_path(release, default_cache()), rows=16)
    finally:
        server.close()
    write_rows(room)
    pretrain(place)
    return place


def tried(place: TrainingScene, training: Training) -> Outcome:
    """Run one, and print what was named."""
    outcome = run(place, training)
    record.keep(place.room, outcome)
    named = ", ".join(f"{severity} {rule}" for rule, severity in outcome.found.items()) or "nothing"
    print(f"{'ok  ' if outcome.caught else 'MISS'} {training.name}: {named} ({outcome.seconds:.0f} s)", flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
