"""Installs the packages that Python lacks, from a folder of wheels into a folder of this run."""

import importlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["NotInstalled", "foreign", "install", "missing"]


class NotInstalled(Exception):
    """Some wheels could not be installed; the message is pip's."""


def missing(folder: Path) -> list[Path]:
    """Return the wheels and source archives in a folder whose distributions this Python lacks.

    Wheels for another Python or system are left out. If several archives of a distribution fit, the latest version and
    then the most specific build is taken.

    Raises:
        NotInstalled: the folder does not exist.
    """
    if not folder.is_dir():
        raise NotInstalled(f"there is no folder {folder}")
    best = {name: path for _, name, path in sorted(_ranked(_lacking(folder)))}
    return sorted(best.values())


def foreign(folder: Path) -> list[Path]:
    """Return the wheels of distributions that this Python lacks and for which no wheel in the folder fits it."""
    fitting = {_name(path) for path in missing(folder)}
    return [path for path in _lacking(folder) if _name(path) not in fitting]


def install(archives: Sequence[Path], target: Path, limit_seconds: float) -> dict[str, str]:
    """Install archives into a new folder, without their dependencies and without a network.

    All archives are installed in a single call of pip. pip moves each new folder to the target unless it exists there.
    So a second call would silently leave out folders that packages share, as `cuda/` of cuda-core, cuda-bindings and
    cuda-pathfinder.

    Args:
        archives: wheels and source archives.
        target: the new folder.
        limit_seconds: time limit of a call of pip.

    Returns:
        The archives that pip refused, with its reasons.

    Raises:
        NotInstalled: pip refused all archives together but none alone, or took longer than `limit_seconds`.
    """
    if not archives:
        return {}
    try:
        _pip(archives, limit_seconds, "--target", str(target))
    except _Refused:
        refused = dict(_refused_alone(archives, limit_seconds))
        if not refused:
            raise
        archives = [path for path in archives if path.name not in refused]
        if archives:
            _pip(archives, limit_seconds, "--target", str(target))
    else:
        refused = {}
    absent = [path.name for path in archives if not _is_in(target, path)]
    if absent:
        raise NotInstalled(f"pip reported no error, but {', '.join(absent)} cannot be found in {target}")
    return refused


class _Refused(NotInstalled):
    pass


def _pip(archives: Sequence[Path], limit_seconds: float, *where: str) -> None:
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", *where)
    command = [sys.executable, "-m", "pip", "install", *options, *map(str, archives)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_seconds, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"pip took longer than {limit_seconds:.0f} s for {len(archives)} packages") from None
    if done.returncode != 0:
        raise _Refused(f"pip ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")


def _refused_alone(archives: Sequence[Path], limit_seconds: float) -> Iterator[tuple[str, str]]:
    """Yield the archives that pip refuses, with its reasons, tried one by one: pip names at most one of several."""
    for path in archives:
        try:
            _pip([path], limit_seconds, "--dry-run", "--ignore-installed")
        except _Refused as refusal:
            yield path.name, " ".join(str(refusal).split())


def _ranked(archives: Sequence[Path]) -> Iterator[tuple[Any, str, Path]]:
    """Yield the archives that fit this Python, with a rank that grows with the version and the match of the tags."""
    packaging = _packaging()
    if packaging is None:  # then pip itself reports the archives that do not fit
        yield from (((), _name(path), path) for path in archives)
        return
    tags, utils, version = packaging
    rank = {tag: -index for index, tag in enumerate(tags.sys_tags())}
    for path in archives:
        try:
            if path.suffix == ".whl":
                _, of, build, own = utils.parse_wheel_filename(path.name)
                fits = [rank[tag] for tag in own if tag in rank]
                if fits:
                    yield (of, max(fits), build), _name(path), path
            else:
                _, of = utils.parse_sdist_filename(path.name)
                yield (of, -len(rank), ()), _name(path), path
        except (utils.InvalidWheelFilename, utils.InvalidSdistFilename, version.InvalidVersion):
            yield (version.Version("0"), -len(rank), ()), _name(path), path  # pip reports the reason


def _packaging() -> tuple[Any, Any, Any] | None:
    """Return the modules `tags`, `utils` and `version` of packaging, or of its copy in pip."""
    for root in ("packaging", "pip._vendor.packaging"):
        try:
            tags, utils, version = (importlib.import_module(f"{root}.{name}") for name in ("tags", "utils", "version"))
        except ImportError:
            continue
        return tags, utils, version
    return None


def _name(archive: Path) -> str:
    return re.split(r"-\d", archive.name)[0]


def _lacking(folder: Path) -> list[Path]:
    found = sorted((*folder.glob("*.whl"), *folder.glob("*.tar.gz")))
    return [path for path in found if not _distributed(_name(path))]


def _distributed(name: str) -> bool:
    """Return True if a distribution is installed, by the name in a wheel's file name."""
    try:
        importlib.metadata.distribution(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _is_in(target: Path, archive: Path) -> bool:
    """Return True if all files in the archive's record exist.

    Commands are left out: they are recorded relative to the folder where pip assembles packages.
    """
    name = _name(archive).replace("_", "-")
    found = [one for one in importlib.metadata.distributions(name=name, path=[str(target)]) if one.files is not None]
    held = ([file for file in one.files or () if ".." not in file.parts] for one in found)
    return any(all(Path(str(file.locate())).exists() for file in files) for files in held)
