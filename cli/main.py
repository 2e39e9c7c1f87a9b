"""The command `latentrt`. This module imports click alone, and each command imports what it runs."""

import errno
import sys
from types import TracebackType

import click

from .command_table import COMMANDS
from .lazy_group import LazyGroup

__all__ = ["cli", "main"]

_LIMITS = {
    errno.EMFILE: "this process may open no more files: raise its limit, for instance with `ulimit -n 1024`",
    errno.ENFILE: "the system may open no more files: close programs, or raise the system's limit",
    errno.EAGAIN: "the system starts no more processes or threads: raise the limit of the user (`ulimit -u`) or of the "
    "container (pids.max)",
    errno.ENOMEM: "not enough memory: give a smaller picture or a shorter clip, or free some memory",
}
"""The sentences for limits of the system, by the number of the error."""


@click.group(
    cls=LazyGroup,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="latentrt", prog_name="latentrt")
@click.option("-v", "--verbose", is_flag=True, help="Log each choice and its reason.")
def cli(verbose: bool) -> None:
    """The VAE of a diffusion model, from checkpoint to production without PyTorch.

    \b
    latentrt export path/to/vae bundle       a checkpoint becomes a bundle
    latentrt encode bundle photo.png -o latents.safetensors
    latentrt decode bundle latents.safetensors -o photo.png
    """
    import logging

    from .terminal import LogFormatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


def main() -> None:
    """Run the command line.

    The exit code is 0, 1 for one of LatentRT's errors (printed as one line), or 2 for wrong usage.
    """
    # The exit is outside of any `except`: an exception holds its frames, the frames hold engines, and an engine that
    # lives until the interpreter is torn down aborts the process (seen with ONNX Runtime 1.32).
    import logging

    sys.excepthook = _print_traceback
    logging.captureWarnings(True)
    sys.exit(_run())


def _run() -> int:
    try:
        return int(cli(standalone_mode=False) or 0)
    except click.ClickException as error:
        from .terminal import show_usage_error

        show_usage_error(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        message = "Interrupted: nothing unfinished was left behind."
    except BrokenPipeError:
        return 1
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        message = f"Error: {sentence}"
    from .terminal import one_line

    click.echo(one_line(message), err=True)
    return 1


def _sentence(error: Exception) -> str | None:
    """The message of an error that the user can do something about; None for a bug."""
    from ..runtime.errors import LatentRTError  # here: it imports NumPy

    match error:
        case LatentRTError():
            return str(error)
        case MemoryError():
            return "not enough memory: give a smaller picture or a shorter clip, or free some memory"
        case OSError() if error.errno in _LIMITS:
            return _LIMITS[error.errno]
        case RuntimeError() if "can't start new thread" in str(error):
            return _LIMITS[errno.EAGAIN]
        case OSError() if error.filename is not None:  # a name that is too long, a folder that may not be read
            return f"{error.filename}: {error.strerror}"
        case _:
            return None


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from .terminal import print_traceback

    print_traceback(kind, error, trace)
