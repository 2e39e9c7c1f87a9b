"""Text from files, made safe to show: control characters are escaped, and long text is shortened.

This module is in the lowest layer because every error message passes through it (`errors.py`).
"""

__all__ = ["MOST_CHARACTERS", "as_line", "shortened", "shown", "visible"]

MOST_CHARACTERS = 600  # in a message on the command line, a line of the log, or a label
_MOST_VALUE_CHARACTERS = 120  # in a value that a message quotes
_JOINERS = "\u200c\u200d"  # invisible, but some scripts and emoji need them
# Unicode categories that are escaped: control characters, invisible formats (some reverse the direction of text),
# halves of characters, and separators of lines and paragraphs.
_HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with an escape for every character that a terminal would act on or hide.

    Args:
        text: any text, for example a name from a file.
        lines: whether newlines and tabs stay, for a report of several lines.

    >>> visible("a\x1b[31mb\n")
    'a\\x1b[31mb\\n'
    """
    if text.isprintable():
        return text
    return "".join(sign if _is_harmless(sign, lines) else _escape(sign) for sign in text)


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text if it has at most `most` characters; otherwise its beginning and its end.

    >>> shortened("0123456789" * 3, 20)
    '012345678 ... 456789'
    """
    if len(text) <= most:
        return text
    gap = " ... "
    end = (most - len(gap)) * 2 // 5
    return f"{text[: most - len(gap) - end]}{gap}{text[len(text) - end :]}"


def as_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """One line of at most `most` characters, without control characters."""
    return shortened(visible(shortened(text, most)), most)


def shown(value: object) -> str:
    """The value as a message quotes it: its repr on one line, shortened.

    >>> shown("decoder.onnx")
    "'decoder.onnx'"
    """
    if isinstance(value, str | bytes):
        value = value[: 4 * _MOST_VALUE_CHARACTERS]  # so that the repr of a megabyte is never made
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        text = f"a {type(value).__name__} of too many digits"
    return shortened(visible(text), _MOST_VALUE_CHARACTERS)


def _is_harmless(sign: str, lines: bool) -> bool:
    if sign in "\n\t":
        return lines
    if sign.isprintable() or sign in _JOINERS:
        return True
    import unicodedata  # imported here: almost no text needs it

    return unicodedata.category(sign) not in _HIDDEN_CATEGORIES


def _escape(sign: str) -> str:
    code = ord(sign)
    if sign in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[sign]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
