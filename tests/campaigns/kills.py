"""Commands that end by a signal at a random moment: nothing is torn, and nothing is left after the next run."""

from collections.abc import Sequence
from pathlib import Path

from .campaign import Case, Settings
from .child import Task

__all__ = ["KillCampaign"]

_MOST_SECONDS = 300  # of a case, which runs its command twice


class KillCampaign:
    """One group per command. The signals take turns: TERM, INT, HUP, KILL."""

    name = "kill"
    most_workers = 4
    batch = 4

    def groups(self) -> Sequence[str]:
        from .kill_commands import COMMANDS  # here: it imports what reads the outputs

        return tuple(COMMANDS)

    def cases_of(self, group: str) -> int | None:
        return None

    def task(self, case: Case, settings: Settings, place: Path) -> Task:
        named = {"command": case.group, "work": str(settings.work), "place": str(place / case.group)}
        arguments = {"command": case.group, "number": case.number, "seed": settings.seed}
        return Task("kill_case", "run_case", arguments, _MOST_SECONDS, None, named)

    def keep(self, case: Case, settings: Settings, place: Path, folder: Path) -> Task | None:
        return None
