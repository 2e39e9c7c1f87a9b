"""Options and habits that several commands share."""

import functools
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import click

from ..export.checkpoints import SourceOptions
from ..runtime import open_bundle
from ..runtime.autoencoders.autoencoder import Autoencoder
from ..runtime.backends.choose import BACKENDS
from ..runtime.errors import Cancelled, InputError
from ..runtime.system.budget import memory_text, parse_memory
from .terminal import one_line

__all__ = [
    "DTYPES",
    "Interrupt",
    "Memory",
    "Size",
    "as_json",
    "backend_options",
    "batch_option",
    "components_option",
    "emit_json",
    "force_option",
    "how_it_ran",
    "measuring_told",
    "opened",
    "progress_bar",
    "provider_option",
    "scaling_options",
    "sizes_option",
    "source_options",
    "threads_option",
]

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")
DTYPES = ("float32", "float16", "bfloat16")
_POLL_SECONDS = 0.1
_CLEARED_LINE = "\r\033[K"  # a progress bar may stand there
_SHOWN_CURSOR = "\033[?25h"  # click hides it while a bar is shown

as_json = click.option("--json", "json_output", is_flag=True, help="Report as JSON on standard output.")
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads of one engine call.  [default: all]"
)
batch_option = click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Of the samples that run."
)


def sizes_option(description: str) -> Callable[[Function], Function]:
    """--size, repeatable, as `sizes`: tuples (H, W) or (H, W, T)."""
    form = Size(("HxW", "HxWxT"))
    return click.option("--size", "sizes", multiple=True, type=form, metavar="HxW[xT]", help=description)


def components_option(verb: str) -> Callable[[Function], Function]:
    """--component, repeatable, as `components`; `verb` is what the command does with them."""
    return click.option(
        "--component",
        "components",
        multiple=True,
        type=click.Choice(["encoder", "decoder"]),
        help=f"{verb} only this one; repeatable.  [default: both]",
    )


def provider_option(description: str) -> Callable[[Function], Function]:
    """--provider: of ONNX Runtime."""
    return click.option("--provider", type=click.Choice(["cpu", "cuda", "tensorrt"]), help=description)


def backend_options(command: Function) -> Function:
    """--backend, --dtype, --provider, --threads, --digest, --engines: for every command that opens a bundle."""
    for option in (
        click.option(
            "--engines/--no-engines",
            default=None,
            help="Whether the bundle's TensorRT engines, which are compiled code, may be loaded.  "
            "[default: yes, and no with --digest]",
        ),
        click.option("--digest", metavar="sha256:...", help="Refuse a bundle of another digest (see inspect)."),
        threads_option,
        provider_option("ONNX Runtime's provider."),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default="float32",
            show_default=True,
            help="Precision; never lowered silently.",
        ),
        click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True),
    ):
        command = option(command)
    return command


def source_options(command: Function) -> Function:
    """--subfolder, --variant, --revision, --allow-pickle, as one `source_options`: for every command with a SOURCE."""

    @functools.wraps(command)
    def packed(
        *arguments: Any,
        subfolder: str | None,
        variant: str | None,
        revision: str | None,
        allow_pickle: bool,
        **options: Any,
    ) -> Any:
        chosen = SourceOptions(subfolder, revision, variant, allow_pickle)
        return command(*arguments, source_options=chosen, **options)

    for option in (
        click.option("--allow-pickle", is_flag=True, help="Let torch read the tensors of a pickle, and nothing else."),
        click.option("--revision", help="Of a hub id: a branch, tag or commit."),
        click.option("--variant", help="Of a diffusers folder: fp16, bf16, ema, ..."),
        click.option("--subfolder", help="Of a folder or hub id: where the VAE is.  [default: itself, or vae]"),
    ):
        packed = option(packed)
    return packed  # type: ignore[return-value]


def force_option(description: str) -> Callable[[Function], Function]:
    """--force: replace an output that exists."""
    return click.option("--force", is_flag=True, help=description)


def how_it_ran(report: Mapping[str, Any]) -> str:
    """The end of a closing line: backend, precision, strategy, exactness, seconds and planned memory of a report."""
    parts = [report["backend"], report["dtype"]]
    if report["strategy"] is not None:
        parts += [report["strategy"], "exact" if report["exact"] else "approximate"]
    parts.append(f"{report['seconds']:.1f} s")
    if report["planned_bytes"] is not None:
        parts.append(f"planned for {memory_text(report['planned_bytes'])}")
    return ", ".join(parts)


def scaling_options(command: Function) -> Function:
    """--scaling-factor and --shift-factor, as `overrides` that hold what was given."""

    @functools.wraps(command)
    def packed(*arguments: Any, scaling_factor: float | None, shift_factor: float | None, **options: Any) -> Any:
        given = {"scaling_factor": scaling_factor, "shift_factor": shift_factor}
        overrides = {key: value for key, value in given.items() if value is not None}
        return command(*arguments, overrides=overrides, **options)

    for option in (
        click.option("--shift-factor", type=float, help="Where the checkpoint does not tell, or to override it."),
        click.option("--scaling-factor", type=float, help="Where the checkpoint does not tell, or to override it."),
    ):
        packed = option(packed)
    return packed  # type: ignore[return-value]


def opened(bundle: str, **engine: Any) -> Autoencoder:
    """The bundle's autoencoder with the options of `backend_options`."""
    return open_bundle(bundle, **engine)


class Interrupt:
    """Runs jobs so that Ctrl-C stops them at once: an engine call would hold Python's main thread, so a job gets a
    thread of its own, and the main one waits, cancels it, and lets it clean up."""

    def __init__(self, vae: Autoencoder) -> None:
        self._vae = vae
        self._stopped = threading.Event()
        self._finished = threading.Event()

    def check(self) -> None:
        """For jobs to call between their steps: raises `Cancelled` after Ctrl-C."""
        if self._stopped.is_set():
            raise Cancelled("interrupted")

    def run(self, job: Callable[[], Result]) -> Result:
        outcome: list[Any] = []

        def work() -> None:
            try:
                outcome.append((True, job()))
            except BaseException as error:
                outcome.append((False, error))
            finally:
                self._finished.set()

        # Waiting for an event, not in join(): before Python 3.13 an interrupted join forgets that the thread runs.
        self._finished.clear()
        worker = threading.Thread(target=work, name="latentrt-job")
        worker.start()
        try:
            while not self._finished.wait(_POLL_SECONDS):
                pass
        except KeyboardInterrupt:
            self._stopped.set()
            while not self._finished.is_set():
                self._vae.cancel()
                self._finished.wait(_POLL_SECONDS)
            raise
        worker.join()
        succeeded, value = outcome[0]
        if not succeeded:
            raise value
        return value  # type: ignore[no-any-return]


class Size(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.5
    """Numbers of at least `least` joined by x, such as 512x768x17, as a tuple. `forms`: what may be given, each as
    "HxWxT" for three numbers; "auto", which becomes an empty tuple, stands for itself."""

    name = "SIZE"

    def __init__(self, forms: tuple[str, ...], least: int = 1) -> None:
        self.forms, self.least = forms, least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        if value == "auto" and "auto" in self.forms:
            return ()
        numbers = str(value).lower().split("x")
        counts = {form.count("x") + 1 for form in self.forms if form != "auto"}
        if len(numbers) not in counts or not all(
            number.isdecimal() and len(number) <= 9 and int(number) >= self.least for number in numbers
        ):
            self.fail(f"{value!r} is not of the form {' or '.join(self.forms)}, such as 512x768", param, ctx)
        return tuple(map(int, numbers))


class Memory(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.5
    """What `parse_memory` reads, as the text that was given: messages then say what the user said."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_memory(value)
        except InputError:
            self.fail(f"{value!r} is not a size: give bytes, or 800MiB, 8GiB, 8GB", param, ctx)
        return str(value)


@contextmanager
def measuring_told(*, hidden: bool = False) -> Iterator[None]:
    """A line on standard error, where that is a terminal, which tells what is measured while a calibration goes on: of
    long clips it takes minutes. With --verbose the log says so itself."""
    log = logging.getLogger("latentrt.runtime.planner.calibration")
    if hidden or not sys.stderr.isatty() or log.isEnabledFor(logging.INFO):
        yield
        return
    notice, level = _MeasuringNotice(), log.level
    log.addFilter(notice)  # a filter, not a handler: the root's handlers would print the record once more
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeFilter(notice)
        if notice.count:
            click.echo(_CLEARED_LINE, err=True, nl=False)


class _MeasuringNotice(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        self.count += 1
        text = f"measuring once, and kept: small call {self.count}, {record.getMessage()}"
        click.echo(f"{_CLEARED_LINE}{one_line(text)}", err=True, nl=False)
        return False


class ProgressUpdate(Protocol):
    """Moves a progress bar; `detail` is shown behind the rate."""

    def __call__(self, what: str, done: int, total: int, detail: str = "") -> None: ...


@contextmanager
def progress_bar(label: str, *, hidden: bool = False) -> Iterator[ProgressUpdate]:
    """A bar on standard error that is told (what is counted, done, in all) and shows how many there are a second;
    nothing where that is not a terminal. A count is shown to its end before another one; one of one is not shown.
    A bar with a detail is removed when it is full."""
    bar: Any = None
    counted, started, shown = "", 0.0, ""
    stream, label = sys.stderr, one_line(label)

    def rate(_: Any) -> str:
        seconds = time.monotonic() - started
        per_second = f"{bar.pos / seconds:.2f} {counted}/s" if bar is not None and bar.pos and seconds else ""
        return ", ".join(filter(None, (per_second, shown)))

    def close() -> None:
        if bar is not None:
            bar.__exit__(None, None, None)

    def update(what: str, done: int, total: int, detail: str = "") -> None:
        nonlocal bar, counted, started, shown
        detail = one_line(detail)  # a file's name
        if hidden or total == 1 or not stream.isatty():
            return
        if not total:  # nobody knows how many there will be
            click.echo(f"\r{label}: {done} {one_line(what)}", nl=False, file=stream)
            return
        if what != counted:
            if bar is not None and bar.pos < bar.length:
                return
            close()
            counted, started, shown = what, time.monotonic(), detail
            click.echo(_CLEARED_LINE, nl=False, file=stream)
            bar = click.progressbar(length=total, label=label, file=stream, show_pos=True, item_show_func=rate)
            bar.__enter__()
        if detail and done == total:
            bar, counted = None, ""
            click.echo(_CLEARED_LINE + _SHOWN_CURSOR, nl=False, file=stream)
            return
        if detail != shown:
            shown = detail
            bar.render_progress()
        bar.update(done - bar.pos)

    try:
        yield update
    finally:
        close()


def emit_json(value: Any) -> None:
    """Print a report for programs. Only DEL is left for us to escape: `json` escapes every other control character."""
    click.echo(json.dumps(value, indent=1, default=str, allow_nan=False).replace("\x7f", "\\u007f"))
