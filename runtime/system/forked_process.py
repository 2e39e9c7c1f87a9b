"""What a forked process inherits from its parent process, and cannot use.

A fork copies the memory of a process, and only the thread that forks. The threads of an engine are not copied. In the
child process a call of the engine waits for them without end, and freeing the engine hangs or crashes. A lock that
another thread held during the fork stays held.

`os.fork`, `multiprocessing` with the start method "fork" and servers that load an application before they fork run the
functions of this module. A system without `fork` never does.
"""

import ctypes
import os
import weakref
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["ForkObserver", "finalize_in_own_process", "keep_in_forked_child", "never_free", "observe_forks"]


class ForkObserver(Protocol):
    """An object that a fork leaves in a state that the child process has to change."""

    def after_fork(self) -> None:
        """Called in the child process, before the fork returns there."""


_observers: "weakref.WeakSet[ForkObserver]" = weakref.WeakSet()
_kept: "weakref.WeakSet[Any]" = weakref.WeakSet()
_forks = 0  # between the start of the interpreter and this process


def observe_forks(observer: ForkObserver) -> None:
    """Call `observer.after_fork()` in each process that is forked from now on, as long as the observer lives."""
    _observers.add(observer)


def keep_in_forked_child(value: Any) -> None:
    """Never free `value` in a process that is forked from now on, nor what it refers to, also not at its end."""
    _kept.add(value)


def never_free(value: Any) -> None:
    """Leak `value`: the interpreter frees neither it nor what it refers to, also not when it ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def finalize_in_own_process(
    value: Any, function: Callable[..., object], *arguments: Any
) -> "weakref.finalize[..., Any]":
    """As `weakref.finalize`, except that `function` is not called in a process that was forked meanwhile."""
    return weakref.finalize(value, _call_unless_forked, _forks, function, *arguments)


def _call_unless_forked(forks: int, function: Callable[..., object], *arguments: Any) -> None:
    if forks == _forks:
        function(*arguments)


def _after_fork() -> None:
    global _forks  # a fact about the process
    _forks += 1
    for value in list(_kept):
        never_free(value)
    for observer in list(_observers):
        observer.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
