"""The errors that every layer can raise: the root of the error tree, and the error about an argument."""

from .plain_text import as_line

__all__ = ["InputError", "LatentRTError"]

_MOST_CHARACTERS = 2000  # per message, so that logs of other programs stay bounded; the command line shows fewer


class LatentRTError(Exception):
    """The root of all errors that LatentRT raises on purpose.

    The message is one sentence for the user: what was wanted, what was got, what to do. The command line prints it
    without a traceback and exits with 1.

    Messages quote files and libraries. So `str` escapes control characters, which a terminal would act on. It shortens
    the message to 2000 characters by leaving out the middle.
    """

    def __str__(self) -> str:
        return as_line(super().__str__(), _MOST_CHARACTERS)


class InputError(LatentRTError):
    """An array or an argument has the wrong rank, channels, dtype, size or content."""
