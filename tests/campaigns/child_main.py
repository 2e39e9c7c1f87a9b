"""The process of `child.Child`: reads tasks from standard input as lines of JSON, and answers each with a verdict."""

import faulthandler
import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from .verdict import Verdict, fault

__all__ = ["main"]

_PREPARING_SECONDS = 300
_GUARD_BYTES = 4 << 30  # address space that a limited case may add: beyond it allocations fail, before the machine does
_MOST_TRACE_BYTES = 1 << 20
_STATUS = Path("/proc/self/status")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    faulthandler.enable()
    prepared: set[str] = set()
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line), prepared).to_json()) + "\n")
        answers.flush()
        if os.fstat(2).st_size > _MOST_TRACE_BYTES:
            os.ftruncate(2, 0)


def _answer(task: dict[str, Any], prepared: set[str]) -> Verdict:
    try:
        module = importlib.import_module(f"campaigns.{task['module']}")
        preparation = task["preparation"]
        key = f"{task['module']} {json.dumps(preparation, sort_keys=True)}"
        if preparation is not None and key not in prepared:
            faulthandler.dump_traceback_later(_PREPARING_SECONDS, exit=True)
            module.prepare(**preparation)
            prepared.add(key)
    except BaseException:
        return fault("preparation", traceback.format_exc())
    finally:
        faulthandler.cancel_dump_traceback_later()
    return _measured(
        lambda: getattr(module, task["function"])(**task["arguments"]), task["seconds"], task["most_bytes"]
    )


def _measured(case: Any, seconds: float, most_bytes: int | None) -> Verdict:
    gc.collect(0)
    if most_bytes is not None:
        _limit_address_space(_GUARD_BYTES)
    before = _start_of_peak()
    started = time.perf_counter()
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        verdict = case()
    except MemoryError:
        verdict = fault("memory", traceback.format_exc())
    except BaseException:
        verdict = fault("traceback", traceback.format_exc())
    finally:
        faulthandler.cancel_dump_traceback_later()
    taken = time.perf_counter() - started
    peak = max(0, _peak() - before)
    if most_bytes is not None:
        _limit_address_space(None)
    if verdict.ending != "fault" and most_bytes is not None and peak > most_bytes:
        verdict = fault("memory", f"the case added {peak / 1e6:.0f} MB ({verdict.ending}: {verdict.detail})")
    return Verdict(verdict.ending, verdict.kind, verdict.detail, taken, peak)


def _limit_address_space(more: int | None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if more is None or not _STATUS.exists():
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    else:
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + more, hard))


def _start_of_peak() -> int:
    """Let the peak of resident memory begin anew, if the system can. Returns the resident bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    if _STATUS.exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(name: str) -> int:
    with _STATUS.open() as lines:
        return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    main()
