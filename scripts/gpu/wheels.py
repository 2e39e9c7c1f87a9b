"""What the Python that runs the check lacks, installed from a folder into one of this run's own."""

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["NotInstalled", "install", "missing"]


class NotInstalled(Exception):
    """Some of the wheels could not be installed: pip's own words."""


def missing(folder: Path) -> list[Path]:
    """The wheels and source archives in a folder whose distributions this Python lacks.

    Raises:
        NotInstalled: there is no such folder.
    """
    if not folder.is_dir():
        raise NotInstalled(f"there is no folder {folder}")
    found = sorted((*folder.glob("*.whl"), *folder.glob("*.tar.gz")))
    return [path for path in found if not _distributed(re.split(r"-\d", path.name)[0])]


def install(archives: Sequence[Path], target: Path, limit_seconds: float) -> None:
    """Install archives, without what they depend on and without a network, into `target`, a new folder.

    In a single call of pip: it puts everything together elsewhere first and then moves it, folder by folder, to where
    nothing is. A second call would leave out every folder that the first one has made, and say that all went well:
    `cuda/`, for instance, which cuda-core, cuda-bindings and cuda-pathfinder share.

    Raises:
        NotInstalled: pip refused one of them, or took longer than `limit_seconds`.
    """
    if not archives:
        return
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target))
    command = [sys.executable, "-m", "pip", "install", *options, *map(str, archives)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_seconds, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"pip took longer than {limit_seconds:.0f} s for {len(archives)} packages") from None
    if done.returncode != 0:
        raise NotInstalled(f"pip ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    absent = [path.name for path in archives if not _is_in(target, path)]
    if absent:
        raise NotInstalled(f"pip said nothing, and {', '.join(absent)} cannot be found in {target}")


def _distributed(name: str) -> bool:
    """Whether a distribution is installed, by its name as a wheel's file has it."""
    try:
        importlib.metadata.distribution(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _is_in(target: Path, archive: Path) -> bool:
    """Whether every file that the archive's record lists is there. (Commands are recorded relative to where pip put
    things together, outside of the packages.)"""
    name = re.split(r"-\d", archive.name)[0].replace("_", "-")
    found = [one for one in importlib.metadata.distributions(name=name, path=[str(target)]) if one.files is not None]
    held = ([file for file in one.files or () if ".." not in file.parts] for one in found)
    return any(all(Path(str(file.locate())).exists() for file in files) for files in held)
