"""The frame of all campaigns: which cases there are, and the run that hands them to child processes."""

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .child import Child, Task
from .summary import Summary
from .verdict import Verdict

__all__ = ["Campaign", "Case", "Settings", "run_campaign"]

_GRACE_SECONDS = 30.0  # that running cases get when the time is over


@dataclass(frozen=True)
class Case:
    """One case. Its group, its number and the seed decide everything that is drawn at random.

    Attributes:
        group: what is tried, such as the name of a parser or of a command.
        number: from 0.
    """

    group: str
    number: int


@dataclass(frozen=True)
class Settings:
    """What to run.

    Attributes:
        work: a folder for the demo models and for the files of the cases. Its content is kept.
        seed: the seed of everything that is drawn at random.
        minutes: when to end. None: when `cases` are done.
        cases: cases per group. None: until `minutes` are over.
        only: the groups; () for all.
        case: only this number of each group.
        workers: child processes.
        keep: a folder for the files of failing cases, or None.
    """

    work: Path
    seed: int = 0
    minutes: float | None = None
    cases: int | None = None
    only: tuple[str, ...] = ()
    case: int | None = None
    workers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    keep: Path | None = None


class Campaign(Protocol):
    """A kind of cases."""

    name: str
    most_workers: int  # cases that may run at a time without disturbing each other
    batch: int  # cases of one group in a row, so that a process uses what it has prepared

    def groups(self) -> Sequence[str]:
        """The names of the groups."""
        ...

    def cases_of(self, group: str) -> int | None:
        """How many different cases a group has, or None if any number makes a new one."""
        ...

    def task(self, case: Case, settings: Settings, place: Path) -> Task:
        """The case as a call. `place` is a folder of the child process."""
        ...

    def keep(self, case: Case, settings: Settings, place: Path, folder: Path) -> Task | None:
        """The call that writes the files of a failing case into `folder`, or None if there are none."""
        ...


def run_campaign(campaign: Campaign, settings: Settings) -> Summary:
    """Run cases until they are done, the time is over, or Ctrl-C. No child is alive afterwards.

    Raises:
        ValueError: a group of `settings.only` does not exist.
    """
    unknown = sorted({*settings.only} - {*campaign.groups()})
    if unknown:
        raise ValueError(f"{campaign.name} has no {', '.join(unknown)}: choose from {', '.join(campaign.groups())}")
    return _Run(campaign, settings).run()


class _Run:
    def __init__(self, campaign: Campaign, settings: Settings) -> None:
        self._campaign, self._settings = campaign, settings
        self._cases = _cases(campaign, settings)
        self._dropped: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._deadline = None if settings.minutes is None else time.monotonic() + 60 * settings.minutes
        self._summary = Summary(campaign.name, settings.seed, settings.only or tuple(campaign.groups()))
        workers = max(1, min(settings.workers, campaign.most_workers))
        self._children = [Child(settings.work / f"worker_{number}") for number in range(workers)]

    def run(self) -> Summary:
        threads = [threading.Thread(target=self._work, args=(child,), daemon=True) for child in self._children]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                self._show_progress()
                threads[0].join(0.5)
                time.sleep(0.1 if threads[0].is_alive() else 0.5)
                if self._is_over():
                    self._stop.set()
                if self._is_over(_GRACE_SECONDS):
                    break  # the cases that still run are ended, and count for nothing
        except KeyboardInterrupt:
            self._summary.interrupted = True
        finally:
            self._stop.set()
            with _signals_ignored():  # a second Ctrl-C must not leave children alive
                for child in self._children:
                    child.end()
                for thread in threads:
                    thread.join(10)
                for child in self._children:
                    child.close()
        self._summary.finish()
        return self._summary

    def _is_over(self, grace: float = 0.0) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline + grace

    def _work(self, child: Child) -> None:
        try:
            for case in self._drawn():
                task = self._campaign.task(case, self._settings, child.folder)
                verdict = child.run(task)
                if verdict.kind == "hang" and not self._stop.is_set():
                    verdict = child.run(task)  # on a busy machine a case may be slow; it hangs if it is slow twice
                if child.ended:  # the frame ended the process, not the case
                    return
                with self._lock:
                    if verdict.kind == "preparation":  # a valid file is refused: every case of the group would fail
                        self._dropped.add(case.group)
                    first = self._summary.add(case.group, case.number, verdict)
                if first:
                    self._keep(child, case, verdict)
        except BaseException as error:
            self._summary.broken = self._summary.broken or repr(error)
            self._stop.set()
            raise

    def _drawn(self) -> Iterator[Case]:
        while not self._stop.is_set():
            with self._lock:
                case = next((case for case in self._cases if case.group not in self._dropped), None)
            if case is None:
                return
            yield case

    def _keep(self, child: Child, case: Case, verdict: Verdict) -> None:
        if self._settings.keep is None:
            return
        folder = (self._settings.keep / f"{self._campaign.name}_{case.group}_{case.number}").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        text = f"scripts/campaign {self._campaign.name} --only {case.group} --case {case.number} "
        (folder / "fault.txt").write_text(f"{text}--seed {self._settings.seed}\n{verdict.kind}\n{verdict.detail}\n")
        task = self._campaign.keep(case, self._settings, child.folder, folder)
        if task is not None:
            child.run(task)

    def _show_progress(self) -> None:
        if not sys.stderr.isatty():
            return
        left = "" if self._deadline is None else f", {max(0.0, self._deadline - time.monotonic()):.0f} s left"
        with self._lock:
            sys.stderr.write(f"\r{self._summary.progress()}{left}\x1b[K")
        sys.stderr.flush()


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cases(campaign: Campaign, settings: Settings) -> Iterator[Case]:
    """The cases in turns: a batch of each group, then the next batch of each."""
    groups = settings.only or tuple(campaign.groups())
    if settings.case is not None:
        yield from (Case(group, settings.case) for group in groups)
        return

    def ends(group: str) -> float:
        counts = [count for count in (settings.cases, campaign.cases_of(group)) if count is not None]
        return min(counts, default=float("inf"))

    for start in itertools.count(0, campaign.batch):
        left = [group for group in groups if start < ends(group)]
        if not left:
            return
        for group in left:
            for number in range(start, int(min(start + campaign.batch, ends(group)))):
                yield Case(group, number)
