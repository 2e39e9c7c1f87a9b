"""An output that is whole or absent: written beside its final name, renamed when it is complete."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError

__all__ = ["is_partial", "output_error", "partial_output", "require_folder", "translated_errors"]


@contextlib.contextmanager
def partial_output(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a free hidden name in the folder of `path`; rename what the body made there to `path`.

    The body makes a file or a folder. On any exception, KeyboardInterrupt too, what it made is removed and an
    existing output is as it was. An empty folder counts as absent. With `overwrite`, an existing folder and
    what is in it are replaced as a whole: the caller looks first at what that would delete.

    Raises:
        OutputError: `path` exists and `overwrite` is false, its folder does not exist, or the rename fails.
    """
    _check_free(path, overwrite)
    require_folder(path)
    # The ending stays last: libraries choose the format by it. Ours is hidden, so that no listing takes it for a frame.
    partial = path.with_name(f".{path.stem}.{os.urandom(4).hex()}.partial{path.suffix}")
    try:
        yield partial
        _check_free(path, overwrite)
        with translated_errors(path):
            _publish(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(partial)
        raise


def require_folder(path: Path) -> None:
    """Check that the folder that `path` lies in is there.

    Raises:
        OutputError: it is not.
    """
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist, so make it first")


def is_partial(path: Path) -> bool:
    """Whether `path` is the rest of an output that was interrupted too hard to clean up."""
    return path.name.startswith(".") and ".partial" in path.name


@contextlib.contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into an `OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: Path, error: Exception) -> OutputError:
    """The sentence for an output that cannot be written because of `error`."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return OutputError(f"cannot write {path}: the disk is full, so free some space or choose another folder")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return OutputError(f"cannot write {path} ({reason}): check the name, the rights and the space there")


def _check_free(path: Path, overwrite: bool) -> None:
    if overwrite or not os.path.lexists(path):
        return
    if path.is_dir() and not path.is_symlink() and next(path.iterdir(), None) is None:
        return
    raise OutputError(f"{path} exists already: choose another name, or remove it first")


def _publish(partial: Path, path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        partial.replace(path)
        return
    old = partial.with_name(f"{partial.name}.old")
    path.rename(old)
    try:
        partial.replace(path)
    except BaseException:
        old.rename(path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        import shutil  # it brings every compression library along, and this is imported at start-up

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
