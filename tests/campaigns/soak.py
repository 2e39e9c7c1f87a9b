"""Load: threads that open, run, cancel, release and close at random. Results stay right, and nothing grows."""

from collections.abc import Sequence
from pathlib import Path

from .backends import LOADS
from .campaign import Case, Settings
from .child import Task

__all__ = ["SoakCampaign"]

_PERIOD_SECONDS = 30.0  # of load in one case
_SHARE = 8  # a campaign of a few minutes has at least two cases of each group


class SoakCampaign:
    """One group per bundle and backend; a case is a period of load."""

    name = "soak"
    most_workers = 1
    batch = 1

    def groups(self) -> Sequence[str]:
        return tuple(LOADS)

    def cases_of(self, group: str) -> int | None:
        return None

    def task(self, case: Case, settings: Settings, place: Path) -> Task:
        seconds = _PERIOD_SECONDS
        if settings.minutes is not None:
            groups = len(settings.only or LOADS)
            seconds = min(seconds, max(2.0, 60 * settings.minutes / groups / _SHARE))
        arguments = {
            "group": case.group,
            "number": case.number,
            "seed": settings.seed,
            "work": str(settings.work),
            "seconds": seconds,
        }
        return Task("soak_case", "run_case", arguments, 4 * seconds + 180, None)

    def keep(self, case: Case, settings: Settings, place: Path, folder: Path) -> Task | None:
        return None
