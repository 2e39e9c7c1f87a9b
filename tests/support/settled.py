"""The strategy by which a decode would run, without running it."""

from typing import Any

from latentrt.runtime.calls.options import DecodeOptions
from latentrt.runtime.calls.strategy import Strategy

__all__ = ["settled"]


class _Checked(Exception):
    """Ends a call after its checks."""

    def __init__(self, job: Any) -> None:
        self.job = job


def settled(vae: Any, z: Any, memory: int | str | None, **options: Any) -> Strategy:
    """What the planner makes of `vae.decode(z, memory=memory, **options)`."""

    def stop(job: Any, options: DecodeOptions) -> None:
        raise _Checked(job)

    vae.opened.run = stop  # in place of the method, for this call
    try:
        vae.decode(z, memory=memory, **options)
    except _Checked as checked:
        strategy: Strategy = vae.opened.planning.settle(checked.job, memory).strategy
        return strategy
    finally:
        del vae.opened.run
    raise AssertionError("the call ran without its plan")
