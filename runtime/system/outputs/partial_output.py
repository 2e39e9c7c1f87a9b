"""An output that is whole or absent: it is written under a temporary name and renamed when it is complete."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ...errors import OutputError
from .durable import flush_folder, flush_tree
from .folder_filling import fill_folder, folder_entries, remove_tree
from .leftovers import remove_leftovers
from .partial_names import PartialName, is_partial
from .writer_mark import WriterMark

__all__ = [
    "is_partial",
    "output_ending",
    "output_error",
    "partial_output",
    "require_file",
    "require_folder",
    "require_free",
    "translated_errors",
]

_RUST_ERROR = re.compile(r"\(os error (\d{1,3})\)")
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextlib.contextmanager
def partial_output(path: Path, *, overwrite: bool = False, last_name: str | None = None) -> Iterator[Path]:
    """Write an output whole or not at all.

    The context gives a free hidden name. The body makes a file or a folder there, which then gets the name `path`. An
    existing folder stays in its place, because it may be a mount point or have permissions of its own: the new entries
    are moved into it. On any exception, including KeyboardInterrupt, the new file or folder is removed and an existing
    output stays as it was. What a killed process left of the same output is removed first. The content is on the disk
    before the output appears.

    Args:
        path: the output. An empty folder there counts as absent.
        overwrite: whether to replace an existing output. A folder is replaced with everything in it, so the caller
            checks its content first.
        last_name: the entry of a folder that is moved last, because the others mean nothing without it.

    Raises:
        OutputError: `path` exists and `overwrite` is false, its folder does not exist, or the output cannot be written
            there.
    """
    require_free(path, overwrite=overwrite)
    require_folder(path)
    if any(map(is_partial, path.absolute().parents)):
        with _within_partial(path) as partial:
            yield partial
        return
    mark: WriterMark | None = None
    try:
        fills = path.is_dir()
        with translated_errors(path):
            replaced = {entry.name for entry in folder_entries(path)} if fills else set()
            mark = WriterMark(path if fills else path.parent, path)
        yield mark.content
        with translated_errors(path):
            flush_tree(mark.content)  # before the check, because it may take minutes
        require_free(path, overwrite=overwrite)
        with translated_errors(path):
            _publish(mark, path, last_name, replaced)
    except BaseException:
        if mark is not None:
            _give_up(mark)
        raise
    mark.remove()


def require_folder(path: Path) -> None:
    """Check that the folder of `path` exists.

    Raises:
        OutputError: it does not exist.
    """
    with translated_errors(path):
        if not path.absolute().parent.is_dir():
            raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist, so make it first")


def require_file(path: Path) -> None:
    """Check that a file can get the name `path`, in place of an existing file.

    Raises:
        OutputError: `path` is a folder, a device or a pipe, or its folder does not exist.
    """
    require_folder(path)
    require_free(path, overwrite=True)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder, so choose another name for the file")


def require_free(path: Path, *, overwrite: bool = False) -> None:
    """Check that an output can have the name `path`, after removing what a killed process left of it.

    Args:
        path: the output. An empty folder there counts as absent.
        overwrite: whether an existing output may be replaced.

    Raises:
        OutputError: `path` exists and `overwrite` is false, or it is a device or a pipe.
    """
    with translated_errors(path):
        remove_leftovers(path)
        if not os.path.lexists(path):
            return
        if path.is_dir():
            if not overwrite and folder_entries(path):
                raise OutputError(f"{path} exists already: choose another name, or remove it first")
            return
        if not overwrite:
            raise OutputError(f"{path} exists already: choose another name, or remove it first")
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise OutputError(f"cannot write {path}: it is no ordinary file, so choose another name")


def output_ending(output: str | Path) -> str:
    """The ending that chooses the format of an output, such as ".png", in lower case. A folder has the ending "".

    A name that ends in a slash is a folder, and so is the name of an existing folder, such as `frames.v2/`.
    """
    text = os.fspath(output)
    separators = (os.sep, os.altsep) if os.altsep else (os.sep,)
    if text.endswith(separators) or Path(text).is_dir():
        return ""
    return Path(text).suffix.lower()


@contextlib.contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into an `OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: Path | str, error: Exception) -> OutputError:
    """The `OutputError` for an output that cannot be written because of `error`."""
    path, code = _shown_path(path), getattr(error, "errno", None)
    reason = getattr(error, "strerror", None)
    if code is None and (found := _RUST_ERROR.search(str(error))):  # as safetensors reports it
        code, reason = int(found[1]), os.strerror(int(found[1]))
    if code in _FULL:
        return OutputError(f"cannot write {path}: the disk is full, so free some space or choose another folder")
    reason = reason or str(error) or type(error).__name__
    return OutputError(f"cannot write {path} ({reason}): check the name, the permissions and the free space")


def _shown_path(path: Path | str) -> Path | str:
    """The path that the user knows: without the hidden name of an unfinished folder."""
    parts: list[str] = []
    for part in Path(path).parts:
        name = PartialName.of_content(part)
        if name is None:
            parts.append(part)
        elif parts[-1:] != [name.stem + name.ending]:  # else the folder itself is filled
            parts.append(name.stem + name.ending)
    return path if parts == list(Path(path).parts) else Path(*parts)


@contextlib.contextmanager
def _within_partial(path: Path) -> Iterator[Path]:
    """Write a part of an output that is not complete itself. The mark of the whole output also covers its parts."""
    partial = path.with_name(PartialName.fresh(path).content)
    try:
        yield partial
        with translated_errors(path):
            partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_tree(partial)
        raise


def _give_up(mark: WriterMark) -> None:
    """Remove an unfinished output and its mark.

    If earlier entries of a folder wait to be brought back, everything stays: the next process needs the content and the
    mark to see that the folder is not complete.
    """
    if os.path.lexists(mark.folder / mark.name.replaced):
        mark.leave()
        return
    with contextlib.suppress(OSError):
        remove_tree(mark.content)
    mark.remove()


def _publish(mark: WriterMark, path: Path, last_name: str | None, replaced: set[str]) -> None:
    """Give the content the name `path`. `replaced`: the entries of an existing folder that may be replaced."""
    if not path.is_dir():
        mark.content.replace(path)
        flush_folder(path.parent)
    elif mark.folder == path and mark.content.is_dir():
        came = {entry.name for entry in folder_entries(path)} - replaced
        if came:
            raise OutputError(f"{path} got the entry {min(came)} meanwhile, which is not replaced: choose another name")
        fill_folder(path, mark, last_name, replaced)
    else:
        raise OutputError(f"cannot write {path}: it is a folder, so choose another name for the file")
