"""An output that is whole or absent: it is written under a temporary name and renamed when it is complete."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError

__all__ = ["is_partial", "output_error", "partial_output", "require_folder", "translated_errors"]


@contextlib.contextmanager
def partial_output(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write an output whole or not at all.

    The context gives a free hidden name in the folder of `path`. The body makes a file or a folder there, which is
    then renamed to `path`. On any exception, including KeyboardInterrupt, the new file or folder is removed and an
    existing output stays as it was.

    Args:
        path: the output. An empty folder there counts as absent.
        overwrite: whether to replace an existing output. A folder is replaced with everything in it, so the caller
            checks its content first.

    Raises:
        OutputError: `path` exists and `overwrite` is false, its folder does not exist, or the rename fails.
    """
    _check_free(path, overwrite)
    require_folder(path)
    # Libraries choose the format by the ending, so it stays last. The name is hidden, so that no listing of a folder
    # takes the file for a frame.
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
    """Check that the folder of `path` exists.

    Raises:
        OutputError: it does not exist.
    """
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist, so make it first")


def is_partial(path: Path) -> bool:
    """Whether `path` is the remainder of an output whose process was killed while it wrote."""
    return path.name.startswith(".") and ".partial" in path.name


@contextlib.contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into an `OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: Path, error: Exception) -> OutputError:
    """The `OutputError` for an output that cannot be written because of `error`."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return OutputError(f"cannot write {path}: the disk is full, so free some space or choose another folder")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return OutputError(f"cannot write {path} ({reason}): check the name, the permissions and the free space")


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
        import shutil  # imported here: it imports every compression library, and start-up imports this module

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
