"""One call of the runtime under ComfyUI's eyes: its progress bar, and the button that interrupts."""

import threading
from types import TracebackType
from typing import Any, Self

import comfy.model_management as model_management
from comfy.utils import ProgressBar

from ...runtime.calls.cancel_token import CancelToken
from ...runtime.errors import Cancelled

__all__ = ["CallWatch"]

_POLL_SECONDS = 0.1


class CallWatch:
    """A context manager around one call, which is given `progress` and `cancel`.

    ComfyUI sets a flag when its user interrupts. Its own models look at the flag between two steps. An engine may run
    for minutes, so a thread looks at the flag, and cancels the call also while the engine runs. The block then raises
    ComfyUI's own exception, and the autoencoder stays usable.

    Attributes:
        cancel: the token of the call.
    """

    def __init__(self) -> None:
        self.cancel = CancelToken()
        self._bar: Any = None
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="latentrt-comfyui-watch", daemon=True)

    def progress(self, done: int, total: int, preview: Any = None) -> None:
        """Show that `done` of `total` steps are done, and perhaps a picture.

        Args:
            preview: (format, PIL picture, largest side) as ComfyUI's progress bars take it.

        Raises:
            InterruptProcessingException: the user interrupts.
        """
        model_management.throw_exception_if_processing_interrupted()
        if self._bar is None:
            self._bar = ProgressBar(total)
        self._bar.update_absolute(done, total, preview)

    def __enter__(self) -> Self:
        model_management.throw_exception_if_processing_interrupted()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._watcher.join()
        if isinstance(error, Cancelled) and self.cancel.cancelled:
            model_management.throw_exception_if_processing_interrupted()  # this also clears the flag
            raise model_management.InterruptProcessingException from error

    def _watch(self) -> None:
        while not self._over.wait(_POLL_SECONDS):
            if model_management.processing_interrupted():
                self.cancel.cancel()
                return
