"""Hostile files: none reads a file outside, runs code, opens a connection, hangs, or takes memory without bound."""

import contextlib
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from .campaign import Case, Settings
from .child import Task
from .material import Material
from .verdict import Verdict, fault, sentence_fault
from .watch import Outside, watched

__all__ = ["SecurityCampaign", "prepare", "run_case"]

_MOST_SECONDS = 10  # of a case; one that runs compiles the model of a bundle


class SecurityCampaign:
    """One group per kind of attack."""

    name = "security"
    most_workers = 4
    batch = 2

    def groups(self) -> Sequence[str]:
        from .hostile_bundles import BUNDLE_ATTACKS  # here: it imports what reads the files
        from .hostile_files import FILE_ATTACKS

        return (*BUNDLE_ATTACKS, *FILE_ATTACKS)

    def cases_of(self, group: str) -> int | None:
        return None

    def task(self, case: Case, settings: Settings, place: Path) -> Task:
        named = {"attack": case.group, "number": case.number, "seed": settings.seed}
        prepared = named | {"work": str(settings.work), "place": str(place / "hostile")}
        return Task("security", "run_case", named, _MOST_SECONDS, preparation=prepared)

    def keep(self, case: Case, settings: Settings, place: Path, folder: Path) -> Task | None:
        return None


@dataclass(frozen=True)
class _Made:
    """A hostile file: the call that reads it, and what watches over it."""

    read: Callable[[], None]
    outside: Outside
    ends: contextlib.ExitStack


_made: dict[tuple[str, int, int], _Made] = {}


def prepare(attack: str, number: int, seed: int, work: str, place: str) -> None:
    """Make one hostile file. Its making is not part of the case, since some take memory and time."""
    from .hostile_bundles import BUNDLE_ATTACKS, make_bundle
    from .hostile_files import make_file

    folder, random, material = Path(place), Random(f"{seed} {attack} {number}"), Material(Path(work))
    shutil.rmtree(folder, ignore_errors=True)
    make = make_bundle if attack in BUNDLE_ATTACKS else make_file
    ends = contextlib.ExitStack()
    outside = ends.enter_context(watched(folder / "outside"))
    (folder / "inside").mkdir()
    read = make(attack, material, folder / "inside", outside, random)
    outside.forget()  # the making may have looked at the files
    _made[attack, number, seed] = _Made(read, outside, ends)


def run_case(attack: str, number: int, seed: int) -> Verdict:
    """Read one hostile file, and look at what it caused."""
    from latentrt.runtime.errors import LatentRTError

    made = _made.pop((attack, number, seed))
    with made.ends:
        try:
            made.read()
        except LatentRTError as error:
            wrong = sentence_fault(str(error))
            verdict = Verdict("refused", "", str(error)[:300]) if wrong is None else fault("message", wrong)
        except Exception:
            verdict = fault("traceback", traceback.format_exc())
        else:
            verdict = Verdict("right")
        harm = made.outside.harm()
    return verdict if harm is None else fault("harm", f"{verdict.ending}: {verdict.detail}\n{harm}")
