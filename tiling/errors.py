"""What every layer can raise: the root of the one error tree, and the error about an argument."""

from .plain_text import as_line

__all__ = ["InputError", "LatentRTError"]

_MOST_CHARACTERS = 2000  # the command line shows fewer; this bounds what other programs log


class LatentRTError(Exception):
    """Anything this package refuses to do.

    The message is one sentence for the user: what was wanted, what was got, what to do. The command line
    prints it without a traceback and exits with 1.

    Messages quote files and libraries. So the text has no control characters, which a terminal would act on, and has
    at most 2000 characters: its beginning and its end.
    """

    def __str__(self) -> str:
        return as_line(super().__str__(), _MOST_CHARACTERS)


class InputError(LatentRTError):
    """An array or an argument has the wrong rank, channels, dtype, size or content."""
