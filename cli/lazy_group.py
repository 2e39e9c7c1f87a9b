"""A click group that imports a command only when that command runs, shows its help or completes its options."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from .command_table import CommandEntry
from .options.everywhere import add_logging_options
from .options.typed import TypedOptions

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """The commands of a table, in the order of the table.

    Listing the commands and completing their names reads the table alone. Every command takes --verbose and --quiet.
    Errors of a command name its options as the user typed them.
    """

    def __init__(self, *arguments: Any, entries: Mapping[str, CommandEntry], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(f".{entry.module}", __package__), cmd_name)
        assert isinstance(command, click.Command)
        add_logging_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            name, command, words = super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self._entries, 1)
            if near:
                _reword(error, f"{error.message.rstrip('.')}: did you mean {near[0]}?")
            raise
        if name is not None and command is not None:
            ctx.meta[__name__] = TypedOptions(command, words)
            if ctx.params.get("json_output"):
                if not any(one.name == "json_output" for one in command.params):
                    raise click.UsageError(f"{name} has no report: leave --json out", ctx)
                ctx.default_map = {name: {"json_output": True}}
        return name, command, words

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, KeyboardInterrupt):
            raise
        except Exception as error:
            typed = ctx.meta.get(__name__)
            if typed is not None:
                _name_options(error, typed)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.line) for name, entry in self._entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self._entries if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self._entries[name].line) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)  # the group's own options


def _name_options(error: Exception, typed: TypedOptions) -> None:
    """Write the options of the command line into the message of an error, instead of arguments of Python."""
    if isinstance(error, click.ClickException):
        example = f" {typed.example}" if isinstance(error, click.MissingParameter) else ""
        _reword(error, f"{typed.renamed(error.message)}{example}".strip())
        return
    from ..tiling.errors import LatentRTError  # here: it imports NumPy

    if isinstance(error, LatentRTError):
        error.spell(typed.spelling, typed.renamed)


def _reword(error: click.ClickException, message: str) -> None:
    vars(error)["message"] = message  # click's stubs declare it final, and a new error would lose the error's kind
