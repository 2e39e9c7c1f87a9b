"""The root of the one error tree, in the lowest layer so that every layer can raise from it."""

__all__ = ["LatentRTError"]


class LatentRTError(Exception):
    """Anything this package refuses to do.

    The message is one sentence for the user: what was wanted, what was got, what to do. The command line
    prints it without a traceback and exits with 1.
    """
