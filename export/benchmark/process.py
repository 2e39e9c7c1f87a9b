"""One case in a process of its own, heard out."""

from pathlib import Path

from ...runtime.errors import EngineError
from ...runtime.system.subprocess_call import call_in_subprocess
from .case import Case, Measurement

__all__ = ["measure"]


def measure(bundle: Path, case: Case) -> Measurement:
    """Measure a case of a bundle. On an exception, KeyboardInterrupt too, the process is ended first.

    Raises:
        EngineError: it does not run, whatever the reason: what the runtime says, or how the process ended.
    """
    result = call_in_subprocess("latentrt.export.benchmark.worker", {"bundle": str(bundle), "case": case.to_json()})
    answer = result.answer
    if answer is None:
        raise EngineError(result.failure)
    if "error" in answer:
        raise EngineError(answer["error"])
    return Measurement(case, **answer | {"seconds": tuple(answer["seconds"])})
