"""Claims on the outputs of a folder, so that several processes share the work on it.

A claim is a small hidden file next to the outputs. It needs no locks, so it also works on network file systems. A claim
only saves work: outputs are written whole or not at all, with and without it.

A claim answers "does its process live?" otherwise than a mark (`writer_mark.py`). If the answer is wrong, two processes
do the same work, and if there is no answer, a file is never done. So a claim must always end: its process changes its
time every ten seconds, and after a silence any process takes it over, also one on another machine. A mark decides
whether an unfinished output is deleted, so it asks for certainty, and stays where there is none.
"""

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from ..process_identity import ProcessIdentity, host_mark
from .partial_output import translated_errors

__all__ = ["FolderClaims", "is_claim"]

_BEAT_SECONDS = 10.0  # between two changes of a held claim's time
_SILENT_SECONDS = 60.0  # a claim of another machine whose time stays the same for so long has no living process
_OLD_SECONDS = 3600.0  # a claim whose time is so long ago, by this machine's clock, is dead at first sight
_MOST_BYTES = 2000  # that are read of a claim
_PREFIX, _ENDING = ".latentrt-", ".claim"


def is_claim(name: str) -> bool:
    """Whether a file name is that of a claim."""
    return name.startswith(_PREFIX) and name.endswith(_ENDING)


class FolderClaims:
    """The claims of one process on the outputs of a folder. A context manager.

    Args:
        folder: the folder of the outputs. It must exist and be writable.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, tuple[int, float]] = {}  # by claim: its time, and when this process first saw that time
        self._held: Path | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._ended.clear()
        threading.Thread(target=self._beat, name="latentrt-claims", daemon=True).start()
        self.sweep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):  # an error here must not hide the error of the body
            self.sweep()

    @contextlib.contextmanager
    def claimed(self, output: str) -> Iterator[bool]:
        """Claim an output by its file name while the body runs.

        The context gives whether this process has the claim. False means that another process works on the output. A
        claim of a process that has ended is taken over.

        Raises:
            OutputError: the folder cannot be written.
        """
        file = self._folder / f"{_PREFIX}{sha256(os.fsencode(output)).hexdigest()[:24]}{_ENDING}"
        with translated_errors(self._folder / output):
            taken = self._take(file)
        if not taken:
            yield False
            return
        with self._lock:
            self._held = file
        try:
            yield True
        finally:
            with self._lock:
                self._held = None
                with contextlib.suppress(OSError):
                    file.unlink()

    def sweep(self) -> None:
        """Remove the claims of processes that have ended."""
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for name in [entry.name for entry in entries if is_claim(entry.name)]:
                file = self._folder / name
                with contextlib.suppress(OSError):
                    if self._is_dead(file):
                        file.unlink()

    def _take(self, file: Path) -> bool:
        for _ in range(2):  # the second time after a dead claim was removed
            try:
                claim = file.open("x", encoding="utf-8")
            except FileExistsError:
                if not self._is_dead(file):
                    return False
                file.unlink(missing_ok=True)
                continue
            try:
                with claim:
                    claim.write(f"{host_mark()} {ProcessIdentity.own().to_text()}")
            except BaseException:
                file.unlink(missing_ok=True)
                raise
            return True
        return False

    def _is_dead(self, file: Path) -> bool:
        """Whether the claim's process has ended, the claim is gone, or it is no ordinary file."""
        try:
            found = file.lstat()
            if not stat.S_ISREG(found.st_mode) or _has_ended(_mark_in(file)):
                return True
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):  # a network file system says ESTALE of a removed file
                raise
            return True
        changed, now = found.st_mtime_ns, time.monotonic()
        seen, since = self._seen.get(file.name, (None, now))
        if changed != seen:  # clocks of machines differ, so the time is compared with itself
            self._seen[file.name] = changed, now
            since = now
        return now - since > _SILENT_SECONDS or time.time() - changed / 1e9 > _OLD_SECONDS

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            with self._lock, contextlib.suppress(OSError):
                if self._held is not None:
                    os.utime(self._held)


def _mark_in(file: Path) -> str:
    """The text of a claim; "" if this user may not read it."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(file, flags), "rb") as claim:
            return claim.read(_MOST_BYTES).decode("utf-8", "replace")
    except PermissionError:
        return ""


def _has_ended(mark: str) -> bool:
    """Whether the process with this mark has certainly ended. False for a process of another machine."""
    host, _, text = mark.partition(" ")
    process = ProcessIdentity.from_text(text)
    return host == host_mark() and process is not None and process.has_ended()
