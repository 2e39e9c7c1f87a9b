"""Ctrl-C stops a command at once, also while an engine runs. So do the other signals of `stop_signals.py`."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ..runtime.autoencoders.autoencoder import Autoencoder
from ..runtime.errors import Cancelled

__all__ = ["Interrupt"]

_POLL_SECONDS = 0.1
Returned = TypeVar("Returned")


class Interrupt:
    """Runs jobs in a thread of their own, and cancels the running job after Ctrl-C.

    An engine call would hold Python's main thread. So the main thread waits, cancels the job, and lets it clean up.
    """

    def __init__(self, vae: Autoencoder) -> None:
        self._vae = vae
        self._stopped = threading.Event()
        self._finished = threading.Event()

    def check(self) -> None:
        """Stop the job after Ctrl-C. Jobs call this between their steps.

        Raises:
            Cancelled: the user pressed Ctrl-C.
        """
        if self._stopped.is_set():
            raise Cancelled("interrupted")

    def run(self, job: Callable[[], Returned]) -> Returned:
        """Run one job and return its result, or raise its exception.

        Raises:
            KeyboardInterrupt: the user pressed Ctrl-C; the job has ended by then.
        """
        outcome: list[Any] = []

        def work() -> None:
            try:
                outcome.append((True, job()))
            except BaseException as error:
                outcome.append((False, error))
            finally:
                self._finished.set()

        # Waiting for an event, not in join(): before Python 3.13 an interrupted join forgets that the thread runs.
        self._finished.clear()
        worker = threading.Thread(target=work, name="latentrt-job")
        try:
            worker.start()
            while not self._finished.wait(_POLL_SECONDS):
                pass
        except KeyboardInterrupt:
            self._stopped.set()
            while worker.ident is not None and not self._finished.is_set():
                self._vae.cancel()
                self._finished.wait(_POLL_SECONDS)
            raise
        worker.join()
        succeeded, value = outcome[0]
        if not succeeded:
            raise value
        return value  # type: ignore[no-any-return]
