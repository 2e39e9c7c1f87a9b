"""The engines of one autoencoder, backend by backend: usually one, and another where a memory budget asks for it."""

import threading
from collections.abc import Callable

from ..calls.strategy import Strategy
from .backend import Backend
from .sessions import Sessions

__all__ = ["EngineSets"]


class EngineSets:
    """Gives the engines that a strategy runs on.

    Args:
        own: the engines of the backend that the bundle was opened with.
        others: gives the backends that planned strategies may name.
        open_other: makes the engines of one of these backends.
    """

    def __init__(
        self,
        own: Sessions,
        others: Callable[[], tuple[Backend, ...]],
        open_other: Callable[[Backend], Sessions],
    ) -> None:
        self._own, self._backends, self._open = own, others, open_other
        self._others: dict[str, Sessions] = {}
        self._lock = threading.RLock()  # a signal handler may cancel anywhere, within the lock too
        self._closed = False

    def of(self, strategy: Strategy) -> Sessions:
        """The engines of the strategy's backend. If the strategy has a memory budget, the engines of every other
        backend are released first: a budget is for the memory of the whole process.

        Raises:
            LatentRTError: the autoencoder was closed.
        """
        if strategy.backend is None:
            found = self._own
        else:
            with self._lock:
                found = self._others.get(strategy.backend) or self._open_of(strategy.backend)
                self._others[strategy.backend] = found
                if self._closed:
                    found.close()
        if strategy.budgeted:
            for sessions in self._every():
                if sessions is not found:
                    sessions.release()
        return found

    def cancel(self) -> None:
        """Stop every call that runs or waits now."""
        for sessions in self._every():
            sessions.cancel()

    def release(self) -> None:
        """Free every engine."""
        for sessions in self._every():
            sessions.release()

    def close(self) -> None:
        """Release, and refuse further calls."""
        with self._lock:
            self._closed = True
        for sessions in self._every():
            sessions.close()

    def _every(self) -> tuple[Sessions, ...]:
        with self._lock:
            return self._own, *self._others.values()

    def _open_of(self, label: str) -> Sessions:
        return self._open(next(backend for backend in self._backends() if backend.label == label))
