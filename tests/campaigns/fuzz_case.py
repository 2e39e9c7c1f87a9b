"""One damaged file, read in a child process."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from .material import Material
from .parsers.registry import PARSERS
from .parsers.subject import Subject
from .verdict import Verdict, fault, sentence_fault

__all__ = ["prepare", "run_case", "write_case"]

_prepared: dict[str, tuple[Subject, Path, dict[str, Any]]] = {}  # subject, its folder, and results of the valid files


def prepare(parser: str, work: str, place: str) -> None:
    """Write the valid files of a parser, and read each."""
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    subject = PARSERS[parser](Material(Path(work)), folder)
    for name, content in subject.seeds.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    valid = {name: subject.read(folder / name) for name in subject.seeds} if subject.is_valid else {}
    _prepared[parser] = (subject, folder, valid)


def run_case(parser: str, number: int, seed: int) -> Verdict:
    """Read one damaged file."""
    subject, folder, valid = _prepared[parser]
    name, content = _altered(parser, number, seed)
    (folder / name).write_bytes(content)
    try:
        found = subject.read(folder / name)
    except subject.refusals as error:
        return _refused(error, subject)
    finally:
        (folder / name).write_bytes(subject.seeds[name])
    if subject.wanted and not _same(found, valid[name]):
        return fault("pixels", f"{name}: the damaged file was read, and gave another result than the valid file")
    return Verdict("right")


def write_case(parser: str, number: int, seed: int, folder: str) -> Verdict:
    """Write the damaged file of a case into a folder."""
    name, content = _altered(parser, number, seed)
    (Path(folder) / Path(name).name).write_bytes(content)
    return Verdict("right")


def _altered(parser: str, number: int, seed: int) -> tuple[str, bytes]:
    subject = _prepared[parser][0]
    random = Random(f"{seed} {parser} {number}")
    name = random.choice(sorted(subject.seeds))
    return name, subject.mutate(random, subject.seeds[name])


def _refused(error: BaseException, subject: Subject) -> Verdict:
    if any(isinstance(cause, MemoryError) for cause in _causes(error)):
        return fault("memory", f"an allocation failed, and the message hides it: {error}")
    wrong = sentence_fault(str(error)) if subject.is_sentence else None
    return Verdict("refused", "", str(error)[:300]) if wrong is None else fault("message", wrong)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and np.array_equal(one, other)
    return bool(one == other)
