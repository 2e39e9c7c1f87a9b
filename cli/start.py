"""The start of the process. A signal during the first imports ends it at once: there is nothing to clean up."""

import signal

__all__ = ["main"]


def main() -> None:
    """Run the command `latentrt` (see `main.main`)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # which prints a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .main import main as run

    run()
