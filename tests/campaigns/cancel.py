"""Storms of cancelled calls: a cancelled call changes no other result, and the autoencoder stays usable."""

from collections.abc import Sequence
from pathlib import Path

from .backends import LOADS, SIZES, bundle_of_load
from .campaign import Case, Settings
from .child import Task
from .verdict import Verdict, fault

__all__ = ["CancelCampaign", "run_case"]

_CALLS = 60  # of a storm
_MOST_SECONDS = 120  # of a storm


class CancelCampaign:
    """One group per bundle and backend; a case is a storm."""

    name = "cancel"
    most_workers = 1
    batch = 1

    def groups(self) -> Sequence[str]:
        return tuple(LOADS)

    def cases_of(self, group: str) -> int | None:
        return None

    def task(self, case: Case, settings: Settings, place: Path) -> Task:
        arguments = {"group": case.group, "number": case.number, "seed": settings.seed, "work": str(settings.work)}
        return Task("cancel", "run_case", arguments, _MOST_SECONDS, None)

    def keep(self, case: Case, settings: Settings, place: Path, folder: Path) -> Task | None:
        return None


def run_case(group: str, number: int, seed: int, work: str) -> Verdict:
    """One storm, with one to four contexts; every third case warms the sizes up first."""
    from .storms import Storm, calls_of, latents_of, opened

    bundle, kind, backend = bundle_of_load(group, work)
    storm = Storm()
    with opened(bundle, backend=backend, threads=1, contexts=1 + number % 4) as vae:
        if number % 3 == 2:
            vae.warmup([(1, vae.config.latent_channels, *size) for size in SIZES[kind][2:]])
        try:
            storm.run(vae, calls_of(vae, SIZES[kind]), seed * 1009 + number, _CALLS)
        except AssertionError as error:
            return fault("pixels", f"after {storm.right} right and {storm.cancelled} cancelled calls: {error}")
        vae.decode(latents_of(vae, SIZES[kind][0]))
        running = vae.opened.engines.calls
    if running:
        return fault("left", f"{len(running)} calls are still registered after the storm")
    return Verdict("right", detail=f"{storm.right} right, {storm.cancelled} cancelled")
