"""Which functions of ours a call enters, counted with `sys.setprofile`."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import latentrt.runtime
import latentrt.tiling

__all__ = ["Walk", "walked"]

_ROOMS = [Path(package.__file__ or "").parent for package in (latentrt.runtime, latentrt.tiling)]
_ENGINES = ("onnxruntime", "openvino", "tensorrt", "cuda")  # the folders of the backends
_OPENING = ("opened_ahead.py", "verified_files.py", "forked_process.py")  # the last: freeing of engines


class Walk:
    """The functions of `latentrt.runtime` and `latentrt.tiling` that a call enters, in their order, each once.

    A function is a `def`, a method or a property. Comprehensions, generator expressions, lambdas and `__init__` belong
    to the function in which they stand, and so does what `dataclass` writes. Left out are the engines (everything in
    the folders of the backends, and what they call), and the opening of engines.

    Attributes:
        functions: (file, function), the file relative to the package.
        before: how many of them were entered before an engine ran for the first time.
    """

    def __init__(self) -> None:
        self.functions: list[tuple[str, str]] = []
        self.before: int | None = None
        self._hidden = threading.local()  # the frame of an engine that runs in this thread

    @property
    def modules(self) -> set[str]:
        return {file for file, _ in self.functions}

    @property
    def up_to_the_engine(self) -> list[tuple[str, str]]:
        """Those that were entered before an engine ran for the first time."""
        return self.functions[: self.before]

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        hidden = getattr(self._hidden, "frame", None)
        if event == "return" and hidden is frame:
            self._hidden.frame = None
        if event != "call" or hidden is not None:
            return
        found = _place(frame.f_code)
        if found is None:
            return
        file, function = found
        if _is_engine(file, function):
            self._hidden.frame = frame
            if self.before is None and function.rpartition(".")[2] in ("run", "step"):
                self.before = len(self.functions)
        elif _counts(function) and found not in self.functions:
            self.functions.append(found)


def walked(call: Callable[[], Any]) -> Walk:
    """What `call` enters, in all threads that it starts."""
    walk = Walk()
    threading.setprofile(walk)
    sys.setprofile(walk)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return walk


def _place(code: CodeType) -> tuple[str, str] | None:
    path = Path(code.co_filename)
    for room in _ROOMS:
        if path.is_relative_to(room):
            return str(Path(room.name) / path.relative_to(room)), code.co_qualname
    return None


def _is_engine(file: str, function: str) -> bool:
    return bool(set(_ENGINES) & set(Path(file).parts)) or Path(file).name in _OPENING or function.endswith(".open_once")


def _counts(function: str) -> bool:
    name = function.rpartition(".")[2]
    return name != "__init__" and not name.startswith("<")
