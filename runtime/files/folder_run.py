"""Runs the jobs of a folder one by one. A job that fails does not stop the others, and several processes can share."""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..arrays.ran import FileRun
from ..errors import InputError, LatentRTError, MediaError, OutputError
from ..system.outputs.claim import FolderClaims
from ..system.outputs.free_space import free_bytes
from .folder_contents import LeftOut
from .folder_job import FolderJob
from .folder_report import FailedFile, FolderReport
from .progress import FileProgress

__all__ = ["FailureReport", "run_folder"]

_LOG = logging.getLogger(__name__)

FailureReport = Callable[[FailedFile], None]
"""Called for each file that fails, as soon as it fails."""

_OF_ONE_FILE = (MediaError, InputError, OutputError)  # the errors of one file; any other error stops the run
# The errors of the system that every further file meets too: when an output is written, and always.
_OF_ALL_OUTPUTS = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE", "ENODEV", "ENOTCONN")
_OF_ALL_FILES = ("EMFILE", "ENFILE", "ENOMEM")
_LEAST_FREE_BYTES = 1 << 20  # a folder with less free space counts as full
_POLL_SECONDS = 0.25  # between two looks at the claims of other processes


def run_folder(
    jobs: Sequence[FolderJob],
    output: Path,
    work: Callable[[FolderJob], FileRun],
    look_again: Callable[[FolderJob], FolderJob],
    *,
    overwrite: bool,
    left_out: tuple[LeftOut, ...] = (),
    check: Callable[[], None] | None = None,
    progress: FileProgress | None = None,
    on_failed: FailureReport | None = None,
) -> FolderReport:
    """Run the jobs of a folder that wait, and report what happened to each.

    A file that cannot be read, does not fit the model or cannot be written is reported, and the run goes on. A full
    disk, missing memory, a broken engine, a cancelled call and an error of the program end the run.

    Several processes may run the same folder at a time. Each takes the files that no other process works on. At the
    end each waits for the others, and takes over the files that they did not finish.

    Args:
        jobs: all jobs of the folder.
        output: the folder of the outputs. It exists.
        work: does one job.
        look_again: gives the job with the state that its output has now.
        overwrite: whether to replace outputs.
        left_out: the entries of the folder that have no job, for the report.
        check: called between the files. It may raise to stop the work.
        progress: called with the number of files that need no further work.
        on_failed: called for each file that fails.

    Raises:
        LatentRTError: an error that is not about one file. The outputs that were written stay.
        Exception: `check` raised.
    """
    check = check or (lambda: None)
    waiting = [job for job in jobs if job.is_waiting(overwrite)]
    kept = tuple(job for job in jobs if not job.is_waiting(overwrite))
    runs: list[FileRun] = []
    shared: list[FolderJob] = []
    failed: list[FailedFile] = []

    def count() -> int:
        done = len(kept) + len(runs) + len(shared) + len(failed)
        if progress is not None:
            progress("files", done, len(jobs))
        return done

    with FolderClaims(output) as claims:
        done = count()
        while waiting:
            held = []
            for job in waiting:
                check()
                with _errors_of(job, failed, on_failed, output), claims.claimed(job.output.name) as mine:
                    if not mine:
                        held.append(job)
                        continue
                    now = look_again(job)
                    if now.is_waiting(overwrite):
                        runs.append(work(now))
                    elif now.state == "other":
                        raise OutputError(f"{now.output} appeared during the run, {now.reason}: give --force")
                    else:
                        shared.append(now)
                done = count()
            if len(held) == len(waiting):
                time.sleep(_POLL_SECONDS)
            waiting = held
    assert done == len(jobs)
    return FolderReport(tuple(runs), kept, tuple(shared), tuple(failed), left_out)


@contextlib.contextmanager
def _errors_of(
    job: FolderJob, failed: list[FailedFile], on_failed: FailureReport | None, output: Path
) -> Iterator[None]:
    """Add the error of one file to `failed`. Errors that concern all files pass."""
    try:
        yield
    except _OF_ONE_FILE as error:
        if _concerns_all(error, output):
            raise
        text = str(error)
        failed.append(FailedFile(job.source, text))
        known = text if job.source.name in text else f"{job.source}: {text}"
        _LOG.warning("%s", known)
        if on_failed is not None:
            on_failed(failed[-1])


def _concerns_all(error: LatentRTError, folder: Path) -> bool:
    """Whether every further file would meet this error too."""
    names = _OF_ALL_FILES + (_OF_ALL_OUTPUTS if isinstance(error, OutputError) else ())
    codes = {getattr(errno, name) for name in names if hasattr(errno, name)}
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in codes:
            return True
        cause = cause.__cause__
    if not isinstance(error, OutputError):
        return False
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return True
    free = free_bytes(folder)
    return free is not None and free < _LEAST_FREE_BYTES
