"""The command `latentrt`. This module imports click alone, and each command imports what it runs."""

import contextlib
import errno
import signal
import sys
from types import TracebackType

import click

from .command_table import COMMANDS
from .lazy_group import LazyGroup
from .options.everywhere import add_logging_options
from .standard_streams import STANDARD_OUTPUT, discard_output, flush_output, prepare_streams
from .stop_signals import StopSignals

__all__ = ["cli", "main"]

_LIMITS = {
    errno.EMFILE: "this process may open no more files: raise its limit, for instance with `ulimit -n 1024`",
    errno.ENFILE: "the system may open no more files: close programs, or raise the system's limit",
    errno.EAGAIN: "the system starts no more processes or threads: raise the limit of the user (`ulimit -u`) or of the "
    "container (pids.max)",
    errno.ENOMEM: "not enough memory: give a smaller picture or a shorter clip, or free some memory",
}
"""The sentences for limits of the system, by the number of the error."""

# Errors without a file name that are no bugs: a full disk, a quota, a limit of the shell, a failing disk.
_OF_THE_SYSTEM = tuple(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO") if hasattr(errno, name)
)


@click.group(
    cls=LazyGroup,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="latentrt", prog_name="latentrt")
@click.option("--json", "json_output", is_flag=True, help="Report as JSON, for commands that report.")
def cli(json_output: bool) -> None:
    """The VAE of a diffusion model, from checkpoint to production without PyTorch.

    \b
    latentrt export path/to/vae bundle       a checkpoint becomes a bundle
    latentrt encode bundle photo.png -o latents.safetensors
    latentrt decode bundle latents.safetensors -o photo.png

    The options stand before a command or after it.
    """
    import logging

    from .printing.terminal import LogFormatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(handlers=[handler])


add_logging_options(cli)


def main() -> None:
    """Run the command line.

    The exit code is 0, 1 for one of LatentRT's errors (printed as one line), or 2 for wrong usage. A command that a
    signal stops cleans up, and ends by that signal.
    """
    signals = StopSignals()
    signals.end_process_at_exit()
    signals.install()
    prepare_streams()
    # The exit is outside of any `except`: an exception holds its frames, the frames hold engines, and an engine that
    # lives until the interpreter is torn down aborts the process (seen with ONNX Runtime 1.32).
    import logging

    sys.excepthook = _print_traceback
    logging.captureWarnings(True)
    code = _run(signals)
    # An output that was begun has imported the marks of writers. Else nothing is imported: the signal may have
    # interrupted the import of NumPy, which cannot be repeated.
    needed = {"latentrt.runtime", "latentrt.runtime.system.outputs.writer_mark"}
    if signals.received is not None and needed <= sys.modules.keys():
        from ..runtime.system.outputs.leftovers import remove_own_leftovers

        remove_own_leftovers()
    sys.exit(code)


def _run(signals: StopSignals) -> int:
    """Run the command, print the sentence of an error, and return the exit code."""
    message = None
    try:
        code = int(cli(standalone_mode=False) or 0)
        flush_output()
        if signals.received is None:
            return code
    except click.ClickException as error:
        from .printing.terminal import show_usage_error

        show_usage_error(error)
        return error.exit_code
    except SystemExit as error:  # click ends so if the reader of a pipe has ended, as in `latentrt inspect ... | head`
        discard_output()
        return error.code if isinstance(error.code, int) else 1
    except BrokenPipeError:
        discard_output()
        return 1
    except (KeyboardInterrupt, click.Abort):
        pass
    except Exception as error:
        if signals.received is None:
            message = _sentence(error)
            if message is None:
                raise
            message = f"Error: {message}"
    _show(message or _interruption(signals))
    return 1


def _interruption(signals: StopSignals) -> str:
    received = signals.received
    by = "" if received in (None, signal.SIGINT) else f" by {received.name}"
    return f"Interrupted{by}: nothing unfinished was left behind."


def _show(message: str) -> None:
    """Print a line on standard error, if that can be written."""
    from .printing.terminal import one_line

    with contextlib.suppress(OSError):
        click.echo(one_line(message), err=True)


def _sentence(error: Exception) -> str | None:
    """The message of an error that the user can do something about; None for a bug."""
    from ..runtime.errors import LatentRTError  # here: it imports NumPy
    from ..runtime.system.outputs.partial_output import output_error

    match error:
        case LatentRTError():
            return str(error)
        case MemoryError():
            return "not enough memory: give a smaller picture or a shorter clip, or free some memory"
        case OSError() if error.filename == STANDARD_OUTPUT:
            discard_output()
            return str(output_error(STANDARD_OUTPUT, error))
        case OSError() if error.errno in _LIMITS:
            return _LIMITS[error.errno]
        case OSError() if error.filename is None and error.errno in _OF_THE_SYSTEM:
            return f"the system refuses it: {error.strerror}"
        case RuntimeError() if "can't start new thread" in str(error):
            return _LIMITS[errno.EAGAIN]
        case OSError() if error.filename is not None:  # a name that is too long, a folder that may not be read
            return f"{error.filename}: {error.strerror}"
        case _:
            return None


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from .printing.terminal import print_traceback

    print_traceback(kind, error, trace)
