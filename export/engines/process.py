"""The client of the build process: it sends the order, reads the answers, and makes one sentence of an error."""

import contextlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...runtime.backends.names import LIBRARIES
from ...runtime.errors import EngineError, MissingExtra
from ...runtime.system.interpreter import module_command, worker_environment
from ...runtime.system.subprocess_call import describe_exit

__all__ = ["library_version", "run_worker"]

_NODE = re.compile(r"(?:operation|node|layer) '?\"?([\w.:/\[\]-]+)")
_BUILD_ERROR = re.compile(r"Error Code \d+: (?P<area>[^(]*)\((?P<reason>.*)\)\s*$", re.DOTALL)
_PARSE_ERROR = re.compile(
    r"In node (?P<index>-?\d+) with name: (?P<node>.*?) and operator: (?P<operator>\S*).*?: (?P<reason>.*)"
)
_WHERE = re.compile(r"\s*(?:In \w+ at \S+|\[\w+\.(?:cpp|h):\d+: \w+\])\s*")
_LONGEST = 400


def library_version(backend: str) -> str:
    """The installed version of a backend's library, without loading it.

    Raises:
        MissingExtra: the library or Polygraphy is not installed.
    """
    module = LIBRARIES[backend]
    for needed in (module, "polygraphy"):
        if importlib.util.find_spec(needed) is None:
            raise MissingExtra(
                f"building for {backend} needs {needed}, which is not installed: "
                f'run `pip install "latentrt[{backend}]"`'
            )
    names = importlib.metadata.packages_distributions().get(module, [])
    versions = {importlib.metadata.version(name) for name in names}
    if len(versions) != 1:
        raise EngineError(
            f"{module} is installed as {', '.join(sorted(set(names))) or 'no package'} with the versions "
            f"{', '.join(sorted(versions)) or 'unknown'}: install one of them into a fresh environment"
        )
    return versions.pop()


def run_worker(order: Mapping[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Build one engine in a process of its own, and return the answer of that process.

    On an exception, KeyboardInterrupt too, the process is ended and its unfinished file is deleted first.

    Raises:
        EngineError: the library refused the graph or failed; the message names the node and the log file. Or this
            program has no Python interpreter to start.
    """
    command = module_command("latentrt.export.engines.worker")
    with Path(order["log"]).open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            env=worker_environment(),
        )
    assert process.stdin is not None
    assert process.stdout is not None
    answer: dict[str, Any] = {}
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            answer = json.loads(line)
            if answer["event"] == "progress":
                progress(answer["done"], answer["total"])
        process.wait()  # before closing its input, which ends it too: the exit code gives the reason
    except BaseException:
        process.kill()
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        process.wait()
        if answer.get("event") != "done":
            Path(order["output"]).unlink(missing_ok=True)
    if answer.get("event") == "done":
        progress(1, 1)
        return answer
    what = f"{order['backend']} does not build {Path(order['graph']).name}"
    if answer.get("event") != "error":
        how = describe_exit(process.returncode)
        raise EngineError(f"{what}: the build process {how}; its log is {order['log']}")
    raise EngineError(f"{what}: {_sentence(answer)}; its log is {order['log']}")


def _sentence(answer: Mapping[str, Any]) -> str:
    """Node and reason from the first error that the library logged, else from the exception."""
    errors = re.findall(r"^\[E\] (.*(?:\n(?!\[).*)*)", answer["log"], re.MULTILINE)
    for error in errors:
        parsed = _PARSE_ERROR.search(" ".join(error.split()))
        if parsed:
            return f"node {parsed['node']} ({parsed['operator']}): {_short(parsed['reason'])}"
    if errors:
        built = _BUILD_ERROR.search(errors[0])
        reason = _short(built["reason"] if built else errors[0])
        node = _NODE.search(reason)
        return f"node {node[1]}: {reason}" if node else reason
    return _short(answer["message"] or answer["kind"])


def _short(text: str) -> str:
    text = " ".join(_WHERE.sub(" ", text).split()).rstrip(". ")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
