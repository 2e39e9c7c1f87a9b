"""Cancelling one call: a token that the caller gives to it."""

import threading
from typing import NoReturn, Protocol

from ...tiling.public_place import shown_in
from ..errors import InputError
from ..system.forked_process import observe_forks

__all__ = ["CancelToken", "check_token"]


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


@shown_in("latentrt.runtime")
class CancelToken:
    """Cancels the calls that were given it, and no others: `vae.decode(z, cancel=token)`.

    `cancel()` may come from any thread. Each call that has the token raises `Cancelled`, at the latest between two
    engine calls. A token stays cancelled: a call that is given it later raises at once. One token may go to several
    calls, such as an encode and the decode after it.

    Example:
        token = CancelToken()
        client.on_disconnect(token.cancel)
        pixels = vae.decode(z, output="uint8", cancel=token).sample
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may cancel anywhere, within the lock too
        self._cancelled = False
        self._calls: set[_Cancellable] = set()
        observe_forks(self)

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel the calls that have this token, and those that get it later. A second time does nothing."""
        with self._lock:
            self._cancelled = True
            calls = tuple(self._calls)
        for call in calls:
            call.cancel()

    def reach(self, call: _Cancellable) -> None:
        """Let `cancel` reach `call`, until `forget`. A token that was cancelled cancels it at once."""
        with self._lock:
            self._calls.add(call)
            cancelled = self._cancelled
        if cancelled:
            call.cancel()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse pickling and copying: `cancel` reaches calls of this process alone.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "a CancelToken cannot be pickled or copied, because it reaches calls of its own process alone: make one in "
            "the process that makes the call"
        )

    def after_fork(self) -> None:
        """The calls run in the parent process alone."""
        self._lock, self._calls = threading.RLock(), set()

    def forget(self, call: _Cancellable) -> None:
        """The call is over."""
        with self._lock:
            self._calls.discard(call)


def check_token(cancel: object) -> None:
    """Raise `InputError` unless `cancel` is a token or None."""
    if cancel is not None and not isinstance(cancel, CancelToken):
        raise InputError(f"cancel: wanted a latentrt.runtime.CancelToken, got {type(cancel).__name__}")
