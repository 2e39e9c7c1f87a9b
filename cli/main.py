"""The command `latentrt`. Imports nothing heavy: each command imports what it runs."""

import sys

import click

from ..runtime.errors import LatentRTError
from .bench import bench
from .build import build
from .calibrate import calibrate
from .convert import convert
from .decode import decode
from .demo import demo
from .doctor import doctor
from .encode import encode
from .export import export
from .inspect import inspect
from .plan import plan
from .terminal import LogFormatter, one_line, print_traceback, show_usage_error
from .verify import verify
from .warmup import warmup

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="latentrt", prog_name="latentrt")
@click.option("-v", "--verbose", is_flag=True, help="Log what is chosen and why.")
def cli(verbose: bool) -> None:
    """The VAE of a diffusion model, from checkpoint to production without PyTorch.

    \b
    latentrt export path/to/vae bundle       a checkpoint becomes a bundle
    latentrt encode bundle photo.png -o latents.safetensors
    latentrt decode bundle latents.safetensors -o photo.png
    """
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


for _command in (export, convert, build, encode, decode, verify, plan, calibrate, bench, warmup, inspect, doctor, demo):
    cli.add_command(_command)


def main() -> None:
    """Run the command line: exit code 0, 1 for an error of ours (one line), 2 for wrong usage."""
    # The exit is outside of any `except`: an exception holds its frames, they hold engines, and an engine that lives
    # until the interpreter is torn down aborts the process (seen with ONNX Runtime 1.32).
    import logging

    sys.excepthook = print_traceback
    logging.captureWarnings(True)
    sys.exit(_run())


def _run() -> int:
    try:
        return int(cli(standalone_mode=False) or 0)
    except click.ClickException as error:
        show_usage_error(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        message = "Interrupted: nothing unfinished was left behind."
    except LatentRTError as error:
        message = f"Error: {error}"
    except MemoryError:
        message = "Error: not enough memory: give a smaller picture or a shorter clip, or free some memory"
    except BrokenPipeError:
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        message = f"Error: {error.filename}: {error.strerror}"  # a name too long, a folder that may not be read
    click.echo(one_line(message), err=True)
    return 1
