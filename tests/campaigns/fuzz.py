"""Damaged files for every parser: each is read as it was, or refused with an error of ours."""

from collections.abc import Sequence
from pathlib import Path

from .campaign import Case, Settings
from .child import Task

__all__ = ["FuzzCampaign"]


class FuzzCampaign:
    """One group per parser."""

    name = "fuzz"
    most_workers = 64
    batch = 50

    def groups(self) -> Sequence[str]:
        from .parsers.registry import PARSERS  # here: it imports what the parsers need

        return tuple(PARSERS)

    def cases_of(self, group: str) -> int | None:
        return None

    def task(self, case: Case, settings: Settings, place: Path) -> Task:
        return self._task("run_case", case, settings, place)

    def keep(self, case: Case, settings: Settings, place: Path, folder: Path) -> Task | None:
        return self._task("write_case", case, settings, place, folder=str(folder))

    def _task(self, function: str, case: Case, settings: Settings, place: Path, **more: str) -> Task:
        named = {"parser": case.group, "work": str(settings.work), "place": str(place / case.group)}
        arguments = {"parser": case.group, "number": case.number, "seed": settings.seed, **more}
        return Task("fuzz_case", function, arguments, preparation=named)
