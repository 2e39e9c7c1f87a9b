"""Reads pickles without running them: what a pickle would import or call becomes an inert value.

Python's own `pickle` imports every class and calls every function that a file names. This machine takes the same
steps and imports nothing and calls nothing, so that a file of any content runs no code. Dicts, lists, tuples, numbers
and text become what they are. A name (`torch.FloatStorage`) becomes a `Name`, and a call becomes a `Made` that keeps
its arguments. Checkpoints of training runs hold objects of many libraries next to their tensors, and none of these
libraries is needed.
"""

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["HostilePickle", "Made", "Name", "Persistent", "PickleRun", "run_pickle"]

_MOST_STEPS = 1_000_000  # The pickle of a training state with 10,000 tensors has about 250,000.
_MOST_DIGITS = 40  # of a number that is written as text
_DICTS = {("collections", "OrderedDict"), ("collections", "defaultdict"), ("builtins", "dict"), ("__builtin__", "dict")}
# Names that no checkpoint needs and that hostile pickles call. They would not be called here either: a file that
# holds them is refused because it was made to run code.
_MODULES_OF_CODE = {"os", "posix", "nt", "subprocess", "runpy", "pty", "socket", "importlib", "shutil", "ctypes", "sys"}
_FUNCTIONS_OF_CODE = {"eval", "exec", "execfile", "compile", "open", "__import__", "input", "breakpoint"}


class HostilePickle(ValueError):
    """A pickle names a function that runs code. The message is that name."""


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Made:
    """An object that a pickle would make by a call, which was not made.

    Attributes:
        of: the class or function, usually a `Name`.
        arguments: the arguments of the call.
        state: the state that the object would get, or None.
    """

    of: Any
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True, eq=False)
class Persistent:
    """A reference to something outside the pickle, such as the bytes of a tensor."""

    of: Any


@dataclass(frozen=True)
class PickleRun:
    """The result of a pickle.

    Attributes:
        value: the value.
        end: the place behind the pickle.
        references: everything outside the pickle that it refers to.
    """

    value: Any
    end: int
    references: tuple[Persistent, ...]


class _Mark:
    """The place on the stack where a list of values begins."""


def run_pickle(content: bytes, start: int = 0) -> PickleRun:
    """Take the steps of one pickle.

    Args:
        content: bytes that hold a pickle. The caller limits their number.
        start: where the pickle begins.

    Raises:
        HostilePickle: the pickle names a function that runs code.
        ValueError: the pickle is damaged, or has more steps than any checkpoint.
    """
    file = io.BytesIO(content)
    file.seek(start)
    try:
        machine = _Machine()
        value = machine.run(pickletools.genops(file))
        return PickleRun(value, file.tell(), tuple(machine.references))
    except HostilePickle:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError("it is damaged, or no pickle") from error


class _Machine:
    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.references: list[Persistent] = []

    def run(self, steps: Iterator[tuple[Any, Any, Any]]) -> Any:
        for count, (step, argument, _) in enumerate(steps):
            if count > _MOST_STEPS:
                raise ValueError("it has too many steps")
            if step.name == "STOP":
                return self._pop()
            self._take(step.name, argument)
        raise ValueError("it has no end")

    def _take(self, step: str, argument: Any) -> None:
        stack = self._stack
        match step:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                stack.append(_Mark)
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._marked()
            case "DUP":
                stack.append(self._top())
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[step])
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "LIST" | "FROZENSET":
                stack.append(self._marked())
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [self._pop() for _ in range(int(step[-1]))]
                stack.append(tuple(reversed(values)))
            case "DICT":
                stack.append(self._filled({}, self._marked()))
            case "APPEND":
                value = self._pop()
                self._extend([value])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._marked())
            case "SETITEM":
                value, key = self._pop(), self._pop()
                self._filled(self._top(), [key, value])
            case "SETITEMS":
                pairs = self._marked()
                self._filled(self._top(), pairs)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._top()
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top()
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "PERSID":
                self._refer(argument)
            case "BINPERSID":
                self._refer(self._pop())
            case _:
                self._take_call(step, argument)

    def _take_call(self, step: str, argument: Any) -> None:
        stack = self._stack
        match step:
            case "GLOBAL":
                stack.append(_named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = self._pop(), self._pop()
                stack.append(_named(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments, of = self._pop(), self._pop()
                stack.append(_made(of, arguments))
            case "NEWOBJ_EX":
                named, arguments, of = self._pop(), self._pop(), self._pop()
                stack.append(_made(of, (arguments, named)))
            case "OBJ":
                of, *arguments = self._marked()
                stack.append(_made(of, tuple(arguments)))
            case "INST":
                stack.append(_made(_named(*argument.split(" ", 1)), tuple(self._marked())))
            case "BUILD":
                state = self._pop()
                if isinstance(self._top(), Made):
                    self._top().state = state
            case _:
                self._take_value(step, argument)

    def _take_value(self, step: str, argument: Any) -> None:
        """A step that pushes a number, text or bytes."""
        known = isinstance(argument, int | float | str | bytes | bytearray)
        if not known or step.startswith("EXT") or (step in ("INT", "LONG") and abs(argument) >= 10**_MOST_DIGITS):
            raise ValueError(f"it has the step {step}")
        self._stack.append(argument)

    def _refer(self, of: Any) -> None:
        self.references.append(Persistent(of))
        self._stack.append(self.references[-1])

    def _top(self) -> Any:
        value = self._stack[-1]
        if value is _Mark:
            raise ValueError("a value is missing")
        return value

    def _pop(self) -> Any:
        value = self._top()
        self._stack.pop()
        return value

    def _marked(self) -> list[Any]:
        """The values above the last mark, which are taken off the stack with it."""
        values = []
        while (value := self._stack.pop()) is not _Mark:
            values.append(value)
        return values[::-1]

    def _extend(self, values: list[Any]) -> None:
        top = self._top()
        if isinstance(top, list):
            top += values
        elif not isinstance(top, Made):
            raise ValueError("values are added to no list")

    def _filled(self, target: Any, pairs: list[Any]) -> Any:
        """Put keys and values, in turns, into a dict. Keys of other kinds than text and numbers are left out: comparing
        nested tuples can take for ever."""
        if len(pairs) % 2 or not isinstance(target, dict | Made):
            raise ValueError("values are put into no dict")
        if isinstance(target, dict):
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                if isinstance(key, str | int):
                    target[key] = value
        return target


def _named(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("a name is no text")
    runs_code = module.split(".")[0] in _MODULES_OF_CODE
    if runs_code or (module in ("builtins", "__builtin__") and name.split(".")[0] in _FUNCTIONS_OF_CODE):
        raise HostilePickle(f"{module}.{name}")
    return Name(module, name)


def _made(of: Any, arguments: Any) -> Any:
    if not isinstance(arguments, tuple):
        raise ValueError("the arguments of a call are no tuple")
    if isinstance(of, Name) and (of.module, of.name) in _DICTS:
        return {}
    return Made(of, arguments)
