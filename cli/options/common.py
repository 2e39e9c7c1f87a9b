"""Options that several commands share."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ...export.checkpoints import SourceOptions
from ...runtime.arrays.kinds import DTYPES
from ...runtime.backends.choose import BACKENDS
from .types import SizeType

__all__ = [
    "as_json",
    "backend_options",
    "batch_option",
    "components_option",
    "force_option",
    "provider_option",
    "scaling_options",
    "sizes_option",
    "source_options",
    "threads_option",
]

Function = TypeVar("Function", bound=Callable[..., Any])

as_json = click.option("--json", "json_output", is_flag=True, help="Report as JSON on standard output.")
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads of one engine call.  [default: the cores that may be used]",
)
batch_option = click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Samples in one call."
)


def sizes_option(description: str) -> Callable[[Function], Function]:
    """--size, repeatable, as `sizes`: tuples (H, W) or (H, W, T) in pixels and frames."""
    form = SizeType(("HEIGHTxWIDTH", "HEIGHTxWIDTHxFRAMES"))
    return click.option("--size", "sizes", multiple=True, type=form, metavar="HEIGHTxWIDTH[xFRAMES]", help=description)


def components_option(verb: str) -> Callable[[Function], Function]:
    """--component, repeatable, as `components`. `verb` says what the command does with a component."""
    return click.option(
        "--component",
        "components",
        multiple=True,
        type=click.Choice(["encoder", "decoder"]),
        help=f"{verb} only this component; repeatable.  [default: both]",
    )


def provider_option(description: str) -> Callable[[Function], Function]:
    """--provider, for ONNX Runtime."""
    return click.option("--provider", type=click.Choice(["cpu", "cuda", "tensorrt"]), help=description)


def backend_options(command: Function) -> Function:
    """--backend, --dtype, --provider, --threads, --digest and --engines, for every command that opens a bundle."""
    for option in (
        click.option(
            "--engines/--no-engines",
            default=None,
            help="Whether to load the bundle's TensorRT engines, which are compiled code.  "
            "[default: load them, except with --digest]",
        ),
        click.option("--digest", metavar="sha256:...", help="Refuse a bundle with another digest (see inspect)."),
        threads_option,
        provider_option("The provider of ONNX Runtime."),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default="float32",
            show_default=True,
            help="Precision of the computation; never lowered silently.",
        ),
        click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True),
    ):
        command = option(command)
    return command


def source_options(command: Function) -> Function:
    """--subfolder, --variant, --revision and --allow-pickle as one `source_options`, for commands with a SOURCE."""

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
        click.option("--allow-pickle", is_flag=True, help="Read the tensors of a pickle. None of its code runs."),
        click.option("--revision", help="For a hub id: a branch, tag or commit."),
        click.option("--variant", help="For a diffusers folder: fp16, bf16, ema, ..."),
        click.option(
            "--subfolder",
            help="For a folder or hub id: the subfolder of the VAE.  [default: the folder itself, or vae]",
        ),
    ):
        packed = option(packed)
    return packed  # type: ignore[return-value]


def force_option(description: str) -> Callable[[Function], Function]:
    """--force: replace an existing output."""
    return click.option("--force", is_flag=True, help=description)


def scaling_options(command: Function) -> Function:
    """--scaling-factor and --shift-factor as one `overrides`, which holds the values that the user gave."""

    @functools.wraps(command)
    def packed(*arguments: Any, scaling_factor: float | None, shift_factor: float | None, **options: Any) -> Any:
        given = {"scaling_factor": scaling_factor, "shift_factor": shift_factor}
        overrides = {key: value for key, value in given.items() if value is not None}
        return command(*arguments, overrides=overrides, **options)

    for option in (
        click.option("--shift-factor", type=float, help="If the checkpoint does not name it, or to override it."),
        click.option("--scaling-factor", type=float, help="If the checkpoint does not name it, or to override it."),
    ):
        packed = option(packed)
    return packed  # type: ignore[return-value]
