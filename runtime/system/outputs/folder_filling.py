"""Fills an existing folder with the entries of another one: a mount point, for example, cannot be replaced.

The folder keeps its place, its owner and its permissions. An interrupted filling can be undone, in this process or in a
later one, because the mark of the writer says which entries are moved.
"""

import contextlib
from collections.abc import Collection
from pathlib import Path

from .durable import flush_folder
from .partial_names import PartialName, is_partial
from .writer_mark import Moves, WriterMark

__all__ = ["fill_folder", "folder_entries", "remove_tree", "undo_filling"]

_OF_THE_SYSTEM = "lost+found"  # a folder that a new ext4 file system holds


def folder_entries(folder: Path) -> list[Path]:
    """The entries of a folder, without unfinished outputs of LatentRT and without `lost+found`.

    Raises:
        OSError: the folder cannot be listed.
    """
    return [entry for entry in folder.iterdir() if not is_partial(entry) and entry.name != _OF_THE_SYSTEM]


def fill_folder(folder: Path, mark: WriterMark, last_name: str | None, replaced: Collection[str]) -> None:
    """Move the entries of the unfinished folder of `mark` into `folder`, in place of those that are there.

    Args:
        folder: the existing folder, which also holds the mark.
        mark: the mark of the unfinished folder.
        last_name: the entry that comes last, because the others mean nothing without it.
        replaced: the names of the entries that go. Other entries stay.

    Raises:
        OSError: an entry cannot be moved. The folder has its earlier entries then.
    """
    new = sorted(_names_in(mark.content), key=lambda name: (name == last_name, name))
    moves = Moves(tuple(new), tuple(entry.name for entry in folder_entries(folder) if entry.name in replaced))
    earlier = folder / mark.name.replaced
    try:
        mark.note(moves)
        if moves.old:
            earlier.mkdir()
        for name in moves.old:
            (folder / name).rename(earlier / name)
        for name in moves.new:
            (mark.content / name).rename(folder / name)
        mark.content.rmdir()  # from now on, the folder is complete
    except BaseException:
        undo_filling(folder, mark.name, moves)
        raise
    with contextlib.suppress(OSError):
        remove_tree(earlier)
    flush_folder(folder)


def undo_filling(folder: Path, name: PartialName, moves: Moves) -> None:
    """Undo an interrupted filling: remove the entries that came, and bring back those that left.

    A complete filling is not undone. Only its remains are removed.

    Raises:
        OSError: an entry cannot be moved or removed.
    """
    content, earlier = folder / name.content, folder / name.replaced
    if content.is_dir() and not content.is_symlink():
        waiting = _names_in(content)
        left = _names_in(earlier) & {*moves.old} if earlier.is_dir() and not earlier.is_symlink() else set()
        for entry in moves.new:
            # An entry with a name that is also an earlier one's may still be that earlier entry.
            came = entry not in waiting and (entry not in moves.old or entry in left)
            if came:
                remove_tree(folder / entry)
        for entry in left:
            (earlier / entry).rename(folder / entry)
    remove_tree(earlier)
    remove_tree(content)


def _names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with everything in it. An absent one is no error.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        import shutil  # imported here: it imports every compression library, and start-up imports this module

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
