"""Sizes of memory as text: units, numbers without a unit, and what is said about wrong ones."""

import pytest

from latentrt.runtime import InputError
from latentrt.runtime.system.budget import memory_text, parse_memory

GIB = 1 << 30


@pytest.mark.parametrize("text", ["2G", "2g", "2GiB", "2gib", "2 GiB", " 2G ", "2048M", "2048MiB", "0.002T", "2.0G"])
def test_a_unit_of_powers_of_two_is_taken_in_every_spelling(text: str) -> None:
    assert parse_memory(text) == (int(0.002 * (1 << 40)) if "T" in text else 2 * GIB)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2 * 10**9),
        ("500M", 500 << 20),
        ("500MB", 500 * 10**6),
        ("1.5GiB", 3 << 29),
        ("64k", 64 << 10),
        ("7B", 7),
    ],
)
def test_a_unit_with_b_alone_is_of_powers_of_ten(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("value", [2, "2", "800", 8, "1000000"])
def test_a_small_number_without_a_unit_is_refused_with_units_to_write(value: int | str) -> None:
    with pytest.raises(InputError, match=rf"memory: {value} without a unit is .*: write {value}GiB or {value}MiB"):
        parse_memory(value)


@pytest.mark.parametrize("value", [GIB, str(GIB), 1 << 20])
def test_a_large_number_without_a_unit_is_bytes(value: int | str) -> None:
    assert parse_memory(value) == int(value)


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("80%", "a share of the memory is not taken"),
        ("2,5G", "write 2.5G"),
        ("lots", "got 'lots'"),
        ("8GiBs", "got"),
        ("-1G", "got"),
        ("1e9", "got"),
        ("0", "got '0'"),
        ("", "got ''"),
        ("G", "got 'G'"),
    ],
)
def test_another_text_is_refused_with_a_size_to_write(text: str, cure: str) -> None:
    with pytest.raises(InputError, match=r'memory: wanted bytes, or a size such as "8GiB"') as refused:
        parse_memory(text)
    assert cure in str(refused.value)


def test_small_sizes_are_not_written_as_zero() -> None:
    assert [memory_text(size) for size in (1, 2, 2048, 3 << 20)] == ["1 byte", "2 bytes", "2 KiB", "3 MiB"]
