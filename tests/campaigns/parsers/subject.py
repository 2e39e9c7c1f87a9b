"""One parser under test."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentrt.runtime.errors import LatentRTError

from ..material import Material
from ..mutations import Mutator, mutated_bytes

__all__ = ["Maker", "Subject"]


@dataclass(frozen=True)
class Subject:
    """A parser, and the valid files that its cases are made from.

    Attributes:
        seeds: the content of each valid file, by its path below the folder of the subject. One of them is altered in
            a case; it is made whole again afterwards.
        read: reads the altered file, whose path it gets. Raises one of `refusals`, or returns what it read.
        mutate: alters a valid file.
        refusals: the errors that the parser may raise.
        wanted: whether a damaged file that is read must give what the valid file gives.
        is_valid: whether the seeds are read without an error.
        is_sentence: whether the message of a refusal has to be one sentence that can be printed.
    """

    seeds: dict[str, bytes]
    read: Callable[[Path], Any]
    mutate: Mutator = mutated_bytes
    refusals: tuple[type[BaseException], ...] = field(default=(LatentRTError,))
    wanted: bool = False
    is_sentence: bool = True
    is_valid: bool = True


Maker = Callable[[Material, Path], Subject]
"""Makes a subject in a folder of its own."""
