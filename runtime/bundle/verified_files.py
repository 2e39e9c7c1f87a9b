"""The checks of an open bundle's files: they are still the files that were opened, with the content of the manifest."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from ..errors import BundleError, InputError
from ..system.file_identity import UnchangedFiles, verified_sha256
from .manifest import Manifest

__all__ = ["BundleFiles", "Verify"]

Verify = Literal["once", "always", "never"]
"""When the weights are compared with the manifest's SHA-256: once for each file (the cache folder remembers it), at
every load, or never. Graphs are small and are compared at every load."""


class BundleFiles:
    """Checks a bundle's files before an engine loads them.

    Raises:
        InputError: `verify` is not "once", "always" or "never".
    """

    def __init__(self, manifest: Manifest, verify: Verify = "once") -> None:
        if verify not in get_args(Verify):
            raise InputError(f"verify must be one of {', '.join(get_args(Verify))}, got {verify!r}")
        self._manifest, self._verify = manifest, verify
        self._sha256 = {entry.name: entry.sha256 for entry in manifest.files}
        self._compared: set[str] = set()  # for "once" if the cache folder cannot remember it
        self._unchanged = UnchangedFiles({manifest.path_of(name): sha256 for name, sha256 in self._sha256.items()})

    def check_graph(self, name: str) -> None:
        """Compare a graph file with the manifest.

        Raises:
            BundleError: the file changed after the bundle was opened, or was altered before.
        """
        self._unchanged.check(self._manifest.path_of(name))
        self._manifest.verify_hash(name)

    @contextmanager
    def checking(self, graph: str, weights: str) -> Iterator[None]:
        """A context in which an engine loads a graph, which `check_graph` has compared, and these weights. A thread
        reads and compares the weights meanwhile. The engine must not be used before the context ends.

        Raises:
            BundleError: a file changed after the bundle was opened, or the weights were altered before.
        """
        path = self._manifest.path_of(weights)
        self._unchanged.check(path)
        check = _Check(self, weights)
        try:
            yield
        finally:  # if the engine does not load, altered weights are the better reason
            check.finish()
        self._unchanged.check(self._manifest.path_of(graph), path)

    def compare(self, name: str) -> None:
        """Compare a file with the manifest, if `verify` asks for it now.

        Raises:
            BundleError: it was altered, or cannot be read.
        """
        if self._verify == "never" or (self._verify == "once" and name in self._compared):
            return
        path = self._manifest.path_of(name)
        try:
            found = verified_sha256(path, remember=self._verify == "once")
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error}") from error
        if found != self._sha256[name]:
            raise BundleError(
                f"{path} was altered: its SHA-256 is {found[:12]}... and the manifest says "
                f"{self._sha256[name][:12]}...; copy the whole bundle again, or export again"
            )
        self._compared.add(name)


class _Check:
    """One comparison, in its own thread."""

    def __init__(self, files: BundleFiles, name: str) -> None:
        self._error: BaseException | None = None

        def compare() -> None:
            try:
                files.compare(name)
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=compare, name="latentrt-verify", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the comparison, and raise its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
