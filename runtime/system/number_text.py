"""Numbers in text from files and the command line. Their form and length are checked before they are parsed.

Python's parsers take any length: `Fraction("1e99999999")` computes a number of a hundred million digits.
"""

import re
from fractions import Fraction

__all__ = ["parse_fraction", "parse_whole_number"]

_WHOLE = re.compile(r"[0-9]{1,18}")
_FRACTION = re.compile(r"([0-9]{1,18})/([0-9]{1,18})")
_DECIMAL = re.compile(r"(?:[0-9]{1,18}(?:\.[0-9]{0,36})?|\.[0-9]{1,36})(?:[eE][+-]?[0-9]{1,2})?")


def parse_whole_number(text: str) -> int:
    """Parse a whole number from 0 with at most 18 digits.

    Raises:
        ValueError: `text` is no such number.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"not a whole number of at most 18 digits: {text[:40]!r}")
    return int(text)


def parse_fraction(text: str) -> Fraction:
    """Parse a number from 0 exactly: whole, decimal ("29.97", "1e3") or a fraction ("30000/1001").

    Raises:
        ValueError: `text` is no such number, or it is too long or too large.
    """
    text = text.strip() if len(text) < 100 else text
    if found := _FRACTION.fullmatch(text):
        if not int(found[2]):
            raise ValueError(f"a fraction of zero: {text!r}")
        return Fraction(int(found[1]), int(found[2]))
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"not a number of at most 18 digits: {text[:40]!r}")
    return Fraction(text)
