"""What the Python that runs the check lacks, installed from a folder into one of this run's own."""

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
    """Some of the wheels could not be installed: pip's own words."""


def missing(folder: Path) -> list[Path]:
    """The wheels and source archives in a folder whose distributions this Python lacks, without wheels that are for
    another Python or system: of several that fit the one of the latest version, built closest to this one.

    Raises:
        NotInstalled: there is no such folder.
    """
    if not folder.is_dir():
        raise NotInstalled(f"there is no folder {folder}")
    best = {name: path for _, name, path in sorted(_ranked(_lacking(folder)))}
    return sorted(best.values())


def foreign(folder: Path) -> list[Path]:
    """The wheels in a folder that are all there is of a distribution that this Python lacks, and not for it."""
    fitting = {_name(path) for path in missing(folder)}
    return [path for path in _lacking(folder) if _name(path) not in fitting]


def install(archives: Sequence[Path], target: Path, limit_seconds: float) -> dict[str, str]:
    """Install archives, without what they depend on and without a network, into `target`, a new folder; those that
    pip does not take are left out, and returned with its reason.

    In a single call of pip: it puts everything together elsewhere first and then moves it, folder by folder, to where
    nothing is. A second call would leave out every folder that the first one has made, and say that all went well:
    `cuda/`, for instance, which cuda-core, cuda-bindings and cuda-pathfinder share.

    Raises:
        NotInstalled: pip refused them together and none alone, or took longer than `limit_seconds`.
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
        raise NotInstalled(f"pip said nothing, and {', '.join(absent)} cannot be found in {target}")
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
    """Those that pip does not take, and why, tried one by one: of several it names none, or only the first."""
    for path in archives:
        try:
            _pip([path], limit_seconds, "--dry-run", "--ignore-installed")
        except _Refused as refusal:
            yield path.name, " ".join(str(refusal).split())


def _ranked(archives: Sequence[Path]) -> Iterator[tuple[Any, str, Path]]:
    """The archives that are for this Python, the better the later: by version, and by how near the tags are."""
    packaging = _packaging()
    if packaging is None:  # pip brings it, and says itself what it does not take
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
            yield (version.Version("0"), -len(rank), ()), _name(path), path  # pip will say why


def _packaging() -> tuple[Any, Any, Any] | None:
    """packaging's `tags`, `utils` and `version`: its own, or those within pip."""
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
    """Whether a distribution is installed, by its name as a wheel's file has it."""
    try:
        importlib.metadata.distribution(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _is_in(target: Path, archive: Path) -> bool:
    """Whether every file that the archive's record lists is there. (Commands are recorded relative to where pip put
    things together, outside of the packages.)"""
    name = _name(archive).replace("_", "-")
    found = [one for one in importlib.metadata.distributions(name=name, path=[str(target)]) if one.files is not None]
    held = ([file for file in one.files or () if ".." not in file.parts] for one in found)
    return any(all(Path(str(file.locate())).exists() for file in files) for files in held)
