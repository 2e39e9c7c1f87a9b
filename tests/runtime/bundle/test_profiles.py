"""Which profile of an engine a call runs in, and what is said where none fits."""

import re

import pytest

from latentrt.runtime import InputError
from latentrt.runtime.bundle.profiles import Profile, ShapeRange, choose_profile

SMALL = Profile({"z": ShapeRange((1, 4, 1, 1), (1, 4, 8, 8), (2, 4, 16, 16))})
LARGE = Profile({"z": ShapeRange((1, 4, 8, 8), (1, 4, 32, 32), (1, 4, 64, 64))})
STATIC = Profile({"z": ShapeRange((1, 4, 16, 16), (1, 4, 16, 16), (1, 4, 16, 16))})


@pytest.mark.parametrize(
    ("shape", "index"),
    [((1, 4, 4, 4), 0), ((2, 4, 16, 16), 0), ((1, 4, 17, 8), 1), ((1, 4, 64, 64), 1), ((1, 4, 16, 16), 2)],
)
def test_the_tightest_profile_that_holds_the_shapes_is_taken(shape: tuple[int, ...], index: int) -> None:
    assert choose_profile([SMALL, LARGE, STATIC], {"z": shape}) == index


def made_for(minimum: int, optimum: int, maximum: int) -> Profile:
    return Profile({"z": ShapeRange(*((1, 4, size, size) for size in (minimum, optimum, maximum)))})


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (8, made_for(1, 8, 64)),  # of those to 64: the nearest optimum
        (30, made_for(1, 32, 64)),
        (64, made_for(64, 64, 64)),  # as near as the one from 32, and nothing else
        (60, made_for(32, 64, 64)),
        (65, made_for(1, 128, 128)),
        (128, made_for(1, 128, 128)),
    ],
)
def test_of_profiles_with_one_maximum_the_nearest_optimum_then_the_largest_minimum_is_taken(
    size: int, wanted: Profile
) -> None:
    profiles = [
        made_for(1, 128, 128), made_for(1, 8, 64), made_for(1, 32, 64), made_for(32, 64, 64), made_for(64, 64, 64)
    ]  # fmt: skip
    for order in (profiles, profiles[::-1], profiles[2:] + profiles[:2]):
        assert order[choose_profile(order, {"z": (1, 4, size, size)})] == wanted
    assert choose_profile([wanted, wanted], {"z": (1, 4, size, size)}) == 0


@pytest.mark.parametrize("shape", [(2, 4, 17, 17), (1, 4, 65, 64), (1, 5, 8, 8), (1, 4, 8), (3, 4, 1, 1)])
def test_a_shape_outside_every_profile_is_refused_with_both(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        InputError,
        match=r"built for z \(1, 4, 1, 1\) to \(2, 4, 16, 16\); or z \(1, 4, 8, 8\) to \(1, 4, 64, 64\), and",
    ):
        choose_profile([SMALL, LARGE], {"z": shape})
    with pytest.raises(InputError, match=re.escape(f"z {shape}") + ": decode in tiles, or build for this size"):
        choose_profile([SMALL, LARGE], {"z": shape})


def test_every_input_counts() -> None:
    both = Profile({**SMALL.ranges, "temb": ShapeRange((1,), (1,), (2,))})
    assert choose_profile([both], {"z": (1, 4, 8, 8), "temb": (2,)}) == 0
    for shapes in ({"z": (1, 4, 8, 8)}, {"z": (1, 4, 8, 8), "temb": (3,)}, {"z": (1, 4, 8, 8), "t": (1,)}):
        with pytest.raises(InputError):
            choose_profile([both], shapes)


def test_a_profile_reads_back_as_it_was_written() -> None:
    assert Profile.from_json(SMALL.to_json()) == SMALL
    assert [profile.is_static for profile in (SMALL, LARGE, STATIC)] == [False, False, True]
    assert str(STATIC) == "z (1, 4, 16, 16)"
    with pytest.raises(ValueError, match="not a shape"):
        Profile.from_json({"z": {"min": [1.5], "opt": [2], "max": [3]}})
