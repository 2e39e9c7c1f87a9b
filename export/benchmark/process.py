"""One case in a process of its own, heard out."""

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ...runtime.errors import EngineError
from .case import Case, Measurement

__all__ = ["measure"]


def measure(bundle: Path, case: Case) -> Measurement:
    """Measure a case of a bundle. On an exception, KeyboardInterrupt too, the process is ended first.

    Raises:
        EngineError: it does not run, whatever the reason: what the runtime says, or how the process ended.
    """
    # -P: a json.py in the user's folder is none of our business.
    command = [sys.executable, "-P", "-m", "latentrt.export.benchmark.worker"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps({"bundle": str(bundle), "case": case.to_json()}) + "\n")
                process.stdin.flush()
            text = process.stdout.readline()
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()
    if not text:
        killed = process.returncode in (-9, 137)
        ended = f"the process ended with code {process.returncode}{': ' + said[-1] if said else ''}"
        raise EngineError("the process was ended by the system, as when memory runs out" if killed else ended)
    answer = json.loads(text)
    if "error" in answer:
        raise EngineError(answer["error"])
    return Measurement(case, **answer | {"seconds": tuple(answer["seconds"])})
