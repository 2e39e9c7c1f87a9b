"""The folder for temporary files, on machines that have none."""

import os
from pathlib import Path

__all__ = ["provide_temporary_folder"]


def provide_temporary_folder(output: str | Path) -> None:
    """Let temporary files go next to the output of a command if the machine has no other folder for them.

    A container with a read-only root and without /tmp is such a machine. Processes that the command starts do the same.
    """
    variables = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    usual = ("/tmp", "/var/tmp", "/usr/tmp") if os.name == "posix" else ()  # as in `tempfile`
    if os.name != "posix" or any(os.access(folder, os.W_OK | os.X_OK) for folder in (*filter(None, variables), *usual)):
        return
    folder = Path(output).absolute().parent
    if os.access(folder, os.W_OK | os.X_OK):
        os.environ["TMPDIR"] = str(folder)
