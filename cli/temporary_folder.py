"""The folder for temporary files, on machines that have none."""

import os
from pathlib import Path

__all__ = ["provide_temporary_folder"]

_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = ("tmpfs", "ramfs")  # file systems whose files count as memory


def provide_temporary_folder(output: str | Path) -> None:
    """Let temporary files go next to the output of a command if the machine has no other folder for them.

    A container with a read-only root and without /tmp is such a machine. Processes that the command starts do the same.
    A folder whose files are in memory is not taken: temporary files are there to save memory.
    """
    variables = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    usual = ("/tmp", "/var/tmp", "/usr/tmp") if os.name == "posix" else ()  # as in `tempfile`
    if os.name != "posix" or any(os.access(folder, os.W_OK | os.X_OK) for folder in (*filter(None, variables), *usual)):
        return
    folder = Path(output).absolute().parent
    if os.access(folder, os.W_OK | os.X_OK) and _kind_of(folder) not in _IN_MEMORY:
        os.environ["TMPDIR"] = str(folder)


def _kind_of(folder: Path) -> str | None:
    """The kind of the file system of a folder, such as "ext4". None if the system does not say it."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == number]
    return found[0] if found else None
