"""--verbose and --quiet, which work before the name of a command and after it."""

import logging
from functools import partial

import click

__all__ = ["add_logging_options", "logging_options"]

_LEVELS = {"verbose": logging.INFO, "quiet": logging.ERROR}


def logging_options() -> list[click.Option]:
    """--verbose and --quiet. They set the level of the log as they are read."""
    texts = {"verbose": "Log each choice and its reason.", "quiet": "Show no progress and no warnings."}
    return [
        click.Option(
            [f"-{name[0]}", f"--{name}"], is_flag=True, expose_value=False, callback=_set_level, help=texts[name]
        )
        for name in _LEVELS
    ]


def add_logging_options(command: click.Command) -> None:
    """Add --verbose and --quiet to a command that does not have them yet."""
    have = {name for one in command.params for name in one.opts}
    command.params += [one for one in logging_options() if not have & set(one.opts)]


def _set_level(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value:
        return
    assert param.name is not None
    root = logging.getLogger()
    chosen, level = ctx.meta.setdefault(__name__, (param.name, root.level))
    if chosen != param.name:
        root.setLevel(level)
        raise click.UsageError("--verbose and --quiet exclude each other: give one of them", ctx)
    ctx.find_root().call_on_close(partial(root.setLevel, level))
    root.setLevel(_LEVELS[param.name])
