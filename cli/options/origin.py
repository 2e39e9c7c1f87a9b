"""The options that name where latents come from, and where they go: --from, --to and --scaled."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ...runtime.errors import InputError
from ...runtime.media.named_origin import check_name, origin_names

__all__ = ["OriginName", "origin_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


class OriginName(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.5
    """The name of an origin: model, diffusion, comfyui, diffusers or a pipeline class."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            check_name(value)
        except InputError as error:
            self.fail(str(error).partition(": ")[2], param, ctx)  # click names the option
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in origin_names() if name.startswith(incomplete)]


def origin_options(option: str, description: str, scaled: str) -> Callable[[Function], Function]:
    """An option for the name of an origin, as `origin`, and --scaled.

    Args:
        option: "--from" or "--to".
        description: the help of the option.
        scaled: the help of --scaled.
    """

    def decorate(command: Function) -> Function:
        command = click.option("--scaled", is_flag=True, help=scaled)(command)
        return click.option(
            option, "origin", type=OriginName(), metavar="model|diffusion|comfyui|PIPELINE", help=description
        )(command)

    return decorate
