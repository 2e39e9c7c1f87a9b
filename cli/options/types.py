"""The types of parameters that click does not have: sizes, amounts of memory, frame rates, compute capabilities."""

import re
from fractions import Fraction
from typing import Any

import click

from ...runtime.errors import InputError
from ...runtime.system.budget import parse_memory
from ...runtime.system.number_text import parse_fraction

__all__ = ["Capability", "FrameRate", "Memory", "SizeType"]

_MOST_DIGITS = 9  # of one number of a size


class SizeType(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.5
    """Numbers joined by x, such as 512x768x17 for height, width and frames, as a tuple of ints.

    Attributes:
        forms: the forms that are accepted, such as "HEIGHTxWIDTHxFRAMES" for three numbers. "auto" is accepted where it
            is one of them, and becomes an empty tuple.
        least: the least that each number may be.
    """

    name = "SIZE"

    def __init__(self, forms: tuple[str, ...], least: int = 1) -> None:
        self.forms, self.least = forms, least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        if value == "auto" and "auto" in self.forms:
            return ()
        numbers = str(value).lower().split("x")
        counts = {form.count("x") + 1 for form in self.forms if form != "auto"}
        if len(numbers) not in counts or not all(map(self._is_number, numbers)):
            self.fail(f"{value!r} is not of the form {' or '.join(self.forms)}, such as {self._example}", param, ctx)
        return tuple(map(int, numbers))

    @property
    def _example(self) -> str:
        """A value of the longest form."""
        numbers = {"BATCH": "1", "FRAMES": "17", "HEIGHT": "512", "WIDTH": "768"}
        longest = max((form for form in self.forms if form != "auto"), key=len)
        return "x".join(numbers.get(name, "64") for name in longest.split("x"))

    def _is_number(self, text: str) -> bool:
        return text.isdecimal() and len(text) <= _MOST_DIGITS and int(text) >= self.least


class Memory(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.5
    """An amount of memory that `parse_memory` reads. The value stays the user's text, so that messages quote it."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_memory(value)
        except InputError as error:
            self.fail(str(error).partition(": ")[2], param, ctx)  # click names the option
        return str(value)


class FrameRate(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.5
    """Frames per second, such as 24, 29.97 or 30000/1001, as a positive `Fraction`."""

    name = "RATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        try:
            rate = value if isinstance(value, Fraction) else parse_fraction(str(value))
        except ValueError:
            self.fail(f"{str(value)[:40]!r} is not a frame rate: give 24, 29.97 or 30000/1001", param, ctx)
        if rate <= 0:
            self.fail("a frame rate is positive", param, ctx)
        return rate


class Capability(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.5
    """A GPU's compute capability, such as 8.9."""

    name = "MAJOR.MINOR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"\d{1,2}\.\d", str(value)):
            self.fail(f"{value!r} is not a compute capability: give 8.9", param, ctx)
        return str(value)
