"""One command that ends by a signal, and the same command again."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from command_line import LATENTRT

from .kill_commands import COMMANDS, Command
from .material import Material
from .processes import CASE_MARK, end_marked, wait_for_end
from .verdict import Verdict, fault

__all__ = ["SIGNALS", "prepare", "run_case"]

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGKILL")
_ENDING_SECONDS = 30  # that a command may take to end after its signal, and its child processes after it
_RUN_SECONDS = 200
_TRIES = 4  # until a signal comes before the end of the command
_OWN_FRAME = re.compile(r'File "[^"]*/(?:latentrt|cli|export|runtime|tiling)/')


@dataclass(frozen=True)
class _Prepared:
    """A command, and what its valid run gave.

    Attributes:
        seconds: how long a run takes.
        names: what stands in the output folder after a run.
        content: what every whole output holds.
        bundles: the files of the demo's bundles, which no run may change.
    """

    command: Command
    material: Material
    place: Path
    seconds: float
    names: list[str]
    content: Any
    bundles: list[str]


_prepared: dict[str, _Prepared] = {}


def prepare(command: str, work: str, place: str) -> None:
    """Run a command to its end twice: the first run fills caches, and the second one is timed."""
    chosen, material = COMMANDS[command], Material(Path(work))
    for number in ("first", "second"):
        folder = _new_folder(Path(place) / number)
        chosen.prepare(material, folder)
        started = time.monotonic()
        done = _run(chosen.arguments(material, folder), folder, uuid.uuid4().hex)
        seconds = time.monotonic() - started
        assert done.returncode == 0, done.stderr
    content = chosen.content(folder / chosen.output) if chosen.output else None
    names = _names(folder)
    _prepared[command] = _Prepared(chosen, material, Path(place), seconds, names, content, _bundle_files(material))


def run_case(command: str, number: int, seed: int) -> Verdict:
    """End a command at a random moment, look at what is left, and run it again."""
    prepared = _prepared[command]
    random = Random(f"{seed} {command} {number}")
    name = SIGNALS[number % len(SIGNALS)]
    moment = random.uniform(0.02, 0.95) * prepared.seconds
    to_group = name == "SIGINT" or random.random() < 0.3  # a terminal signals the group, a supervisor the process
    mark = uuid.uuid4().hex
    try:
        for _ in range(_TRIES):
            folder = _new_folder(prepared.place / f"case_{number}")
            prepared.command.prepare(prepared.material, folder)
            wrong, in_time = _killed(prepared, folder, mark, name, moment, to_group=to_group)
            if in_time:
                break
            moment *= 0.6  # the machine is less busy than when the command was timed
        wrong = wrong or _again(prepared, folder, mark)
    finally:
        end_marked(mark, CASE_MARK)
    if wrong is None:
        shutil.rmtree(folder.parent)
        return Verdict("right")
    target = "the process group" if to_group else "the process"
    return fault(wrong[0], f"{command}, {name} to {target} after {moment:.2f} s:\n{wrong[1]}")


_Wrong = tuple[str, str] | None  # the kind of a fault, and a sentence


def _killed(
    prepared: _Prepared, folder: Path, mark: str, name: str, moment: float, *, to_group: bool
) -> tuple[_Wrong, bool]:
    """Start a command and send it a signal. Returns what is wrong, and whether it was still running then."""
    number = getattr(signal, name)
    process = _started(prepared.command.arguments(prepared.material, folder), folder, mark)
    try:
        _, errors = process.communicate(timeout=moment)
        in_time = False
    except subprocess.TimeoutExpired:
        in_time = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number) if to_group else process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return ("hang", f"the command did not end within {_ENDING_SECONDS} s after {name}"), True
    return _left_by(prepared, folder, mark, name, process.returncode, errors), in_time


def _left_by(prepared: _Prepared, folder: Path, mark: str, name: str, code: int, errors: str) -> _Wrong:
    """What is wrong with what a command left that ended by a signal."""
    if _is_our_traceback(errors):
        return "traceback", errors[-1500:]
    if alive := wait_for_end(mark, _ENDING_SECONDS, CASE_MARK):
        return "child process", f"still alive: {[' '.join(one.cmdline())[:200] for one in alive]}"
    output = _output(prepared, folder)
    if output is not None and output.exists() and (torn := _torn(prepared, output, whole=not prepared.command.grows)):
        return "torn", torn
    if output is not None and code == 0 and not output.exists():
        return "exit code", "the command ended with 0, and there is no output"
    if name != "SIGKILL" and (left := {*_names(folder)} - {*prepared.names}):
        return "left", f"left after {name}, before the next run: {_top(left)}"
    return None


def _again(prepared: _Prepared, folder: Path, mark: str) -> _Wrong:
    """Run the command again."""
    output = _output(prepared, folder)
    words = prepared.command.arguments(prepared.material, folder)
    exists = output is not None and output.exists() and not prepared.command.grows
    if exists and prepared.command.force:
        words.append("--force")
    done = _run(words, folder, mark)
    if _is_our_traceback(done.stderr):
        return "traceback", done.stderr[-1500:]
    refused_rightly = exists and not prepared.command.force and "exist" in done.stderr
    if done.returncode != 0 and not refused_rightly:
        return "next run", f"the next run ended with {done.returncode}: {done.stderr[-500:]}"
    if output is not None and (torn := _torn(prepared, output, whole=True)):
        return "torn", f"after the next run: {torn}"
    if (names := _names(folder)) != prepared.names:
        return "left", f"left or missing after the next run: {_top({*names} ^ {*prepared.names})}"
    if left := sorted(path.name for path in _temporary(folder).iterdir()):
        return "left", f"left in the folder for temporary files after the next run: {', '.join(left)}"
    if (files := _bundle_files(prepared.material)) != prepared.bundles:
        return "left", f"changed in the demo's folders: {sorted({*files} ^ {*prepared.bundles})}"
    return None


def _torn(prepared: _Prepared, output: Path, *, whole: bool) -> str | None:
    """What is wrong with an output, or None."""
    try:
        content = prepared.command.content(output)
    except Exception as error:
        return f"{output.name} is torn: {type(error).__name__}: {error}"
    if not whole and isinstance(content, dict):  # some files of a folder; each has to be right
        wrong = [name for name, one in content.items() if prepared.content.get(name) != one]
        return f"{output.name} holds wrong files: {wrong}" if wrong else None
    return None if content == prepared.content else f"{output.name} has another content than that of a whole run"


def _is_our_traceback(errors: str) -> bool:
    """Whether a traceback shows. One from the start of Python itself, before our code runs, does not count."""
    return "Traceback (most recent call last)" in errors and _OWN_FRAME.search(errors) is not None


def _top(names: Iterable[str]) -> str:
    """The names at the top of a folder, joined."""
    return ", ".join(sorted({name.partition("/")[0] for name in names}))


def _output(prepared: _Prepared, folder: Path) -> Path | None:
    return folder / prepared.command.output if prepared.command.output else None


def _new_folder(place: Path) -> Path:
    """An empty output folder, with a folder for temporary files next to it."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "output").mkdir(parents=True)
    (place / "temporary").mkdir()
    return place / "output"


def _temporary(folder: Path) -> Path:
    return folder.parent / "temporary"


def _names(folder: Path) -> list[str]:
    """Everything in the output folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _bundle_files(material: Material) -> list[str]:
    return sorted(path.relative_to(material.demo).as_posix() for path in material.demo.rglob("*"))


def _started(words: Sequence[str | Path], folder: Path, mark: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*LATENTRT, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {CASE_MARK: mark, "TMPDIR": str(_temporary(folder))},
        start_new_session=True,
    )


def _run(words: Sequence[str | Path], folder: Path, mark: str) -> "subprocess.CompletedProcess[str]":
    process = _started(words, folder, mark)
    try:
        _, errors = process.communicate(timeout=_RUN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
        errors += f"\nno end after {_RUN_SECONDS} s"
    return subprocess.CompletedProcess(process.args, process.returncode, "", errors)
