"""Processors of one name are of several kinds."""

from __future__ import annotations

import pytest

from harness.run import cpu_info
from harness.run.cpu_info import kind_in, name_in
from harness.run.provenance import this_machine

X86 = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
cpu MHz\t\t: 2450.0
flags\t\t: fma avx2 avx512f
bugs\t\t:
address sizes\t: 48 bits physical, 48 bits virtual

processor\t: 1
model name\t: another
flags\t\t: none
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


def test_a_name_says_of_which_kind_the_processor_is() -> None:
    assert name_in(X86) == "AMD EPYC (family 25, model 17, stepping 1)"
    assert name_in("model name : A : B\n") == "A : B"
    assert name_in(ARM) == ""
    assert name_in("") == ""


def test_what_it_can_do_is_of_its_kind_and_its_present_clock_is_not() -> None:
    kind = {"vendor_id": "AuthenticAMD", "cpu family": "25", "model": "17", "stepping": "1"}
    assert kind_in(X86) == {**kind, "flags": "avx2 avx512f fma"}
    assert kind_in(X86.replace("2450", "2900")) == kind_in(X86)
    assert kind_in(ARM) == {"CPU implementer": "0x41", "CPU part": "0xd0c", "Features": "asimd fp"}
    assert kind_in("") == {}


@pytest.mark.parametrize("described", ["", ARM])
def test_a_machine_that_names_no_processor_has_a_name_all_the_same(described: str, monkeypatch) -> None:
    monkeypatch.setattr(cpu_info, "_described", lambda: described)
    assert this_machine().processor
