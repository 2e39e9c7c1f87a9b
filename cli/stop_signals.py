"""Ctrl-C and the other signals that stop a command: it cleans up, and then ends by the signal."""

import atexit
import contextlib
import os
import signal
import sys
import threading
from types import FrameType

__all__ = ["StopSignals"]

# SIGQUIT (Ctrl-\) is left out on purpose: it still ends a command at once when its clean-up takes too long.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGBREAK")
_AGAIN_SECONDS = 0.05
_WINDOWS_EXIT = 0xC000013A - (1 << 32)  # STATUS_CONTROL_C_EXIT, as the signed number that os._exit takes


class StopSignals:
    """Turns the first signal that asks the process to end into a KeyboardInterrupt, and ignores the later ones.

    The later signals would interrupt the clean-up: a terminal that closes, and systemd, send several. A signal that is
    ignored when the command starts stays ignored, as `nohup` wants for SIGHUP.

    Attributes:
        received: the first signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._handled: list[signal.Signals] = []

    def install(self) -> None:
        """Handle the signals from now on. Only the main thread may call this."""
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._receive)
                self._handled.append(number)
        sys.unraisablehook = self._raise_again

    def end_process_at_exit(self) -> None:
        """End the process by the received signal, after everything else at the exit of the interpreter.

        A shell that runs a loop sees then that Ctrl-C ended the command, and ends the loop. Call this before other
        functions are registered with `atexit`, because the first one runs last.
        """
        atexit.register(self._end_process)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            raise KeyboardInterrupt

    def _raise_again(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Python drops an exception that is raised while it frees an object. Then the signal is sent once more."""
        received = self.received
        if received is None or unraisable.exc_type is not KeyboardInterrupt:
            sys.__unraisablehook__(unraisable)
            return
        self.received = None
        # Not from here: Python would drop this exception too.
        threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), received)).start()

    def _end_process(self) -> None:
        if self.received is None:
            for number in self._handled:  # the output is complete: a late signal may end the process at once
                signal.signal(number, signal.SIG_DFL)
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a closed stream, a full disk
                stream.flush()
        if sys.platform == "win32":
            os._exit(_WINDOWS_EXIT)
        signal.signal(self.received, signal.SIG_DFL)
        os.kill(os.getpid(), self.received)
        os._exit(128 + self.received)  # the first process of a container: the kernel ignores its default signals
