"""Measures one case in a process of its own."""

from pathlib import Path

from ...runtime.errors import EngineError
from ...runtime.system.subprocess_call import call_in_subprocess
from .case import Case, Measurement

__all__ = ["measure"]


def measure(bundle: Path, case: Case) -> Measurement:
    """Measure a case of a bundle. An exception, also KeyboardInterrupt, leaves this function after the process ended.

    Raises:
        EngineError: the case does not run. The message is that of the runtime, or says how the process ended.
    """
    result = call_in_subprocess("latentrt.export.benchmark.worker", {"bundle": str(bundle), "case": case.to_json()})
    answer = result.answer
    if answer is None:
        raise EngineError(result.failure)
    if "error" in answer:
        raise EngineError(answer["error"])
    return Measurement(case, **answer | {"seconds": tuple(answer["seconds"])})
