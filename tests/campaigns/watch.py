"""Watches what a hostile file must not cause: reading outside its folder, running code, and connections."""

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Outside", "watched"]

_IN_ACCESS, _IN_OPEN = 0x1, 0x20
_SECRET_BYTES = 4 << 20


@dataclass(frozen=True)
class Outside:
    """What lies outside of the hostile file's folder.

    Attributes:
        folder: a folder of files that must not be read.
        secret: one of them, with the bytes of plausible weights.
        picture: another one.
        canary: a file that exists only if hostile code ran.
        port: a port of this machine that listens.
    """

    folder: Path
    secret: Path
    picture: Path
    canary: Path
    port: int
    _server: socket.socket
    _notices: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/clip.mp4"

    @property
    def run_canary(self) -> str:
        """A shell command that makes the canary."""
        return f"touch '{self.canary}'"

    def forget(self) -> None:
        """Forget which files were opened so far."""
        with contextlib.suppress(BlockingIOError):
            while self._notices >= 0:
                os.read(self._notices, 1 << 16)

    def harm(self) -> str | None:
        """What happened that must not, or None."""
        if self.canary.exists():
            return "code in the file ran"
        with contextlib.suppress(BlockingIOError):
            self._server.accept()[0].close()
            return "a connection was opened"
        with contextlib.suppress(BlockingIOError):
            if self._notices >= 0 and os.read(self._notices, 1 << 16):
                return "a file outside of the folder was opened"
        return None


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[Outside]:
    """Make a folder that is watched from now on. Only Linux says which files are opened."""
    folder.mkdir(parents=True)
    secret, picture = folder / "secret.safetensors", folder / "secret.png"
    secret.write_bytes(np.arange(_SECRET_BYTES // 4, dtype=np.float32).tobytes())
    picture.write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    canary = folder.with_name("canary")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        notices = _notices_of(folder)
        try:
            yield Outside(folder, secret, picture, canary, server.getsockname()[1], server, notices)
        finally:
            if notices >= 0:
                os.close(notices)


def _notices_of(folder: Path) -> int:
    """A descriptor on which the system reports each file of the folder that is opened, or -1."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "inotify_init1"):
        return -1
    notices = int(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    library.inotify_add_watch(notices, os.fsencode(folder), _IN_ACCESS | _IN_OPEN)
    return notices
