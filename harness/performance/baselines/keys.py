"""What has to be equal so that times and memory can be compared: the GPU or processor, driver, torch and precision."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Self

from harness.core.cells import Device, Outcome, Precision
from harness.core.numbers import count, mapping
from harness.run.provenance import Provenance


@dataclass(frozen=True, kw_only=True)
class Key:
    """A kind of machine, with its torch and precision."""

    device: Device
    hardware: str
    """The GPU's name, or the processor's model."""
    cores: int | None
    """How many of a processor's a run may use, because it runs so many cells at once; None for a GPU."""
    driver: str | None
    """The first part of the GPU's driver's version; None without one."""
    torch: str
    precision: Precision

    def __str__(self) -> str:
        place = f"{self.cores} cores" if self.device is Device.CPU else f"driver {self.driver}"
        return f"{self.hardware}, {place}, torch {self.torch}, {self.precision}"

    @property
    def name(self) -> str:
        """The name of its file, without the ending: `nvidia-h100-80gb-hbm3_driver-550_torch-2.9.1+cu128_fp32`."""
        place = f"cores-{self.cores}" if self.device is Device.CPU else f"driver-{self.driver}"
        return "_".join(map(_slug, (self.hardware, place, f"torch-{self.torch}", self.precision)))

    def to_json(self) -> dict[str, object]:
        """As the file holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: a field is missing, unknown, or has no legal value.
        """
        raw = mapping(data)
        if set(raw) != set(cls.__dataclass_fields__):
            raise ValueError("its key has not the fields " + ", ".join(cls.__dataclass_fields__))
        cores, driver = raw["cores"], raw["driver"]
        return cls(
            device=Device(str(raw["device"])),
            hardware=str(raw["hardware"]),
            cores=None if cores is None else count(cores),
            driver=None if driver is None else str(driver),
            torch=str(raw["torch"]),
            precision=Precision(str(raw["precision"])),
        )


@dataclass(frozen=True, kw_only=True)
class NoKey:
    """Why it is not known well enough what a cell was measured on."""

    reason: str


def key_of(outcome: Outcome, origin: Provenance) -> Key | NoKey:
    """The key of a cell that was run where `origin` says."""
    cell = outcome.cell
    if origin.other_machines:
        return NoKey(reason="the run was made on several machines")
    if cell.device is Device.CPU:
        return Key(
            device=cell.device,
            hardware=origin.processor,
            cores=origin.cpu_count,
            driver=None,
            torch=origin.torch,
            precision=cell.precision,
        )
    names = sorted(set(origin.gpus))
    if not names or origin.driver is None:
        return NoKey(reason="the run does not say which GPU or driver it had")
    if len(names) > 1:
        return NoKey(reason=f"the machine has GPUs of several kinds ({', '.join(names)})")
    if mapping(outcome.metrics.get("device")).get("kind") == "MIG":
        return NoKey(reason="it ran on a partition of a GPU (MIG), whose size is not known")
    return Key(
        device=cell.device,
        hardware=names[0],
        cores=None,
        driver=origin.driver.partition(".")[0],
        torch=origin.torch,
        precision=cell.precision,
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-.") or "unknown"
