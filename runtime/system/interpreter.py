"""The Python interpreter that work in separate processes is started with.

`sys.executable` is no interpreter everywhere. In an application that PyInstaller, cx_Freeze or Nuitka made it is the
application, in a server that embeds Python it is the server, and some hosts leave it empty. Starting it would start the
application again, which would start itself again, without end.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import EngineError

__all__ = ["interpreter", "module_command", "worker_environment"]

_NAMES = re.compile(r"(python|pypy|graalpy)[\w.-]*", re.IGNORECASE)
_DEPTH_VARIABLE = "LATENTRT_WORKER_DEPTH"
_MOST_DEPTH = 2  # `latentrt bench` starts a worker for each case, which starts workers that measure for its plan
_START = """\
import json, runpy, sys
sys.path += [folder for folder in json.loads(sys.argv.pop(1)) if folder not in sys.path]
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def interpreter() -> Path | None:
    """The Python interpreter of this process. None: there is none, or it cannot run the modules of this process.

    If `sys.executable` is another program, this is the interpreter in the folder of the environment.
    """
    if getattr(sys, "frozen", False) or hasattr(sys, "oxidized") or "__compiled__" in globals():
        return None  # frozen, or compiled by Nuitka, which sets the global variable
    if _depth() >= _MOST_DEPTH:
        return None  # if `sys.executable` were an application after all, it would end here
    folder = Path(sys.exec_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [folder / "bin" / version, folder / "bin/python3"]
    if sys.platform == "win32":
        places = [folder / "python.exe", folder / "Scripts/python.exe"]
    given = [Path(sys.executable)] if sys.executable else []
    for place in (*given, *places):
        if _NAMES.fullmatch(place.stem) and place.is_file() and os.access(place, os.X_OK):
            return place
    return None


def module_command(module: str) -> list[str]:
    """The command that runs a module in a fresh Python process. The module is found where this process would find it,
    also if the program added folders or archives to `sys.path`.

    Raises:
        EngineError: this process has no interpreter to start.
    """
    found = interpreter()
    if found is None:
        raise EngineError(
            "this needs a fresh Python process, and this program has no Python interpreter to start (it is frozen or "
            "embeds Python): run the command `latentrt` of an ordinary Python environment for this"
        )
    # -P keeps the user's folder out of the import path: a json.py there must not be imported.
    return [str(found), "-P", "-c", _START, json.dumps([folder for folder in sys.path if folder]), module]


def worker_environment() -> Mapping[str, str]:
    """The environment of a worker process."""
    return {**os.environ, _DEPTH_VARIABLE: str(_depth() + 1)}


def _depth() -> int:
    """How many workers this process stands below: 0 for a program of the user's."""
    text = os.environ.get(_DEPTH_VARIABLE, "")
    return int(text) if text.isdecimal() and len(text) < 3 else 0
