"""Runs the jobs of a folder one by one. A job that fails does not stop the others, and several processes can share."""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...tiling.argument_names import argument
from ..arrays.ran import FileRun
from ..errors import EngineError, InputError, LatentRTError, MediaError, OutputError
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

_OF_ONE_FILE = (MediaError, InputError, OutputError)
_OF_THE_ENGINE = (EngineError, MemoryError)  # of one file too, such as a large picture, unless all files meet them
_MOST_IN_A_ROW = 10  # files in a row that the engine may fail; each takes seconds at most until it fails
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

    A file that cannot be read, does not fit the model, does not fit into the memory, fails in the engine or cannot be
    written is reported, and the run goes on. A full disk, a cancelled call and an error of the program end the run.
    Ten files in a row that fail in the engine or for want of memory end it too: the engine is broken, or all files need
    other settings.

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
        EngineError: the engine failed for ten files in a row.
        Exception: `check` raised.
    """
    check = check or (lambda: None)
    waiting = [job for job in jobs if job.is_waiting(overwrite)]
    kept = tuple(job for job in jobs if not job.is_waiting(overwrite))
    runs: list[FileRun] = []
    shared: list[FolderJob] = []
    failures = _Failures(output, on_failed)
    failed = failures.files

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
                with failures.of(job), claims.claimed(job.output.name) as mine:
                    if not mine:
                        held.append(job)
                        continue
                    now = look_again(job)
                    if now.is_waiting(overwrite):
                        runs.append(work(now))
                        failures.in_a_row = 0
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


class _Failures:
    """The files of a run that failed.

    Attributes:
        files: the files, with the reasons.
        in_a_row: how many files the engine failed since it last ran one.
    """

    def __init__(self, output: Path, on_failed: FailureReport | None) -> None:
        self.files: list[FailedFile] = []
        self.in_a_row = 0
        self._output, self._on_failed = output, on_failed

    @contextlib.contextmanager
    def of(self, job: FolderJob) -> Iterator[None]:
        """Add an error of the body to the failures. Errors that concern all files pass."""
        try:
            yield
        except _OF_ONE_FILE as error:
            if _concerns_all(error, self._output):
                raise
            self._add(job, error)
        except _OF_THE_ENGINE as error:
            known = error if isinstance(error, EngineError) else _without_memory()
            self._add(job, known)
            self.in_a_row += 1
            if self.in_a_row == _MOST_IN_A_ROW:
                raise EngineError(
                    f"{_MOST_IN_A_ROW} files in a row failed in the engine, so the run ends, and files that are done "
                    f"stay: mend the cause and start it again ({known})"
                ) from error

    def _add(self, job: FolderJob, error: LatentRTError) -> None:
        text = str(error)
        self.files.append(FailedFile(job.source, text))
        known = text if job.source.name in text else f"{job.source}: {text}"
        _LOG.warning("%s", known)
        if self._on_failed is not None:
            self._on_failed(self.files[-1])


def _without_memory() -> EngineError:
    return EngineError(f"there is not enough memory for this file: give {argument('memory')}, or a smaller file")


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
