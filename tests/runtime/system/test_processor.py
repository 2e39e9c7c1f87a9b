"""What Linux tells of the CPU, and what there is where nothing tells."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentrt.export.benchmark.machine import describe_machine
from latentrt.runtime.system import processor as module
from latentrt.runtime.system.processor import processor

TWO_CORES = """\
processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu avx2 avx512f amx_bf16

processor\t: 1
model name\t: Another CPU
flags\t\t: fpu
"""


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    processor.cache_clear()
    yield
    processor.cache_clear()


def test_name_and_instructions_are_the_first_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(TWO_CORES, encoding="utf-8")
    monkeypatch.setattr(module, "_CPUINFO", file)
    assert processor().name == "Some CPU @ 2.00GHz"
    assert processor().instructions == {"fpu", "avx2", "avx512f", "amx_bf16"}
    assert describe_machine()["cpu"] == "Some CPU @ 2.00GHz (avx2, avx512f, amx_bf16)"


@pytest.mark.parametrize("text", [None, "processor\t: 0\nFeatures\t: asimd bf16\n"])
def test_where_nothing_tells_the_name_is_pythons(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another system, or Linux on ARM."""
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "_CPUINFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "a processor")
    assert processor() == module.Processor("a processor", frozenset())
    processor.cache_clear()
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert describe_machine()["cpu"] == "unknown CPU"
