"""What every layer can raise: the root of the one error tree, and the error about an argument."""

__all__ = ["InputError", "LatentRTError"]


class LatentRTError(Exception):
    """Anything this package refuses to do.

    The message is one sentence for the user: what was wanted, what was got, what to do. The command line
    prints it without a traceback and exits with 1.
    """


class InputError(LatentRTError):
    """An array or an argument has the wrong rank, channels, dtype, size or content."""
