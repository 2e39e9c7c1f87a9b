"""The strategy by which a decode would run, without running it."""

from typing import Any

from latentrt.runtime.calls.options import DecodeOptions
from latentrt.runtime.calls.strategy import Strategy

__all__ = ["settled"]


def settled(vae: Any, z: Any, memory: int | str | None, **options: Any) -> Strategy:
    """What the planner makes of `vae.decode(z, memory=memory, **options)`."""
    chosen = DecodeOptions(memory=memory, **options)
    job = vae.opened.jobs.decode(z, vae.settings, chosen, may_stream=vae._may_stream)
    strategy: Strategy = vae.opened.planning.settle(job, memory).strategy
    return strategy
