"""Cases that fail on purpose, by which the tests see that the frame finds each kind of fault."""

import faulthandler
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from latentrt.runtime.errors import MediaError

from . import fuzz_case
from .fuzz_case import run_case, write_case
from .material import Material
from .parsers.registry import PARSERS
from .parsers.subject import Subject
from .verdict import Verdict

__all__ = [
    "allocates",
    "crashes",
    "hangs",
    "prepare",
    "raises",
    "right",
    "run_case",
    "starts_a_process",
    "write_case",
]


def right(number: int) -> Verdict:
    return Verdict("right")


def raises(number: int) -> Verdict:
    raise KeyError("a foreign error")


def hangs(number: int) -> Verdict:
    time.sleep(600)
    return Verdict("right")


def crashes(number: int) -> Verdict:
    faulthandler._sigsegv()  # type: ignore[attr-defined] # noqa: SLF001 # a crash on purpose
    return Verdict("right")


def allocates(number: int) -> Verdict:
    held = bytearray(os.urandom(1 << 20)) * 200
    return Verdict("right", detail=str(len(held)))


def starts_a_process(number: int) -> Verdict:
    return Verdict("right", detail=str(subprocess.Popen(["sleep", "600"]).pid))


def prepare(parser: str, work: str, place: str) -> None:
    """As `fuzz_case.prepare`, with faulty parsers in addition."""
    module: Any = fuzz_case
    module.PARSERS = {**PARSERS, "faulty": _faulty, "refusing": _refusing}
    fuzz_case.prepare(parser, work, place)


def _faulty(material: Material, place: Path) -> Subject:
    def read(path: Path) -> bytes:
        content = path.read_bytes()
        if content == bytes(64):
            return b"right"
        match sum(content) % 4:
            case 0:
                return content[:4] + b"other pixels"
            case 1:
                raise KeyError("a foreign error")
            case 2:
                raise MediaError("")
        try:
            raise MemoryError("no memory")
        except MemoryError as error:
            raise MediaError("it is damaged: replace it") from error

    return Subject({"file.bin": bytes(64)}, read, wanted=True)


def _refusing(material: Material, place: Path) -> Subject:
    def read(path: Path) -> Any:
        raise MediaError("a valid file is refused")

    return Subject({"file.bin": b"valid"}, read)
