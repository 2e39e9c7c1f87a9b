"""Costs that are known at once: from earlier measurements, or from bounds where these decide."""

from ..calls.strategy import Strategy
from ..calls.workload import Workload
from ..errors import EngineError
from .bounds import Bounds
from .calibration import Calibration
from .costs import Cost, Costs
from .probe import Point, Probe

__all__ = ["KnownPoints", "QuickCosts"]


class KnownPoints:
    """The points that were measured before. Nothing is measured.

    Args:
        calibration: holds the points.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration

    def point(self, probe: Probe) -> Point:
        """The probe's point.

        Raises:
            EngineError: the probe was not measured.
        """
        if not self._calibration.holds(probe):
            raise EngineError(f"{probe.label} was not measured")
        return self._calibration.point(probe)


class QuickCosts:
    """Costs without new measurements.

    Args:
        known: the costs by what was measured before.
        bounds: the bounds of calls.
    """

    def __init__(self, known: Costs, bounds: Bounds) -> None:
        self._known, self._bounds = known, bounds

    def of(self, work: Workload, strategy: Strategy, budget: int, most_bytes: int | None) -> Cost | None:
        """The cost of a strategy. None: it has to be measured, because it was not, and because the budget lies between
        the least and the most that the call may take.

        Args:
            work: the call.
            strategy: how it runs.
            budget: the bytes that the call may take.
            most_bytes: the bytes that measuring may take, as for `Costing`.
        """
        try:
            return self._known.of(work, strategy, most_bytes)
        except EngineError:
            pass
        bound = self._bounds.of(work, strategy)
        if bound is None or bound.least_bytes <= budget < bound.most_bytes:
            return None
        return Cost(bound.least_bytes, bound.seconds, bound.most_bytes - bound.least_bytes, "bounded")
