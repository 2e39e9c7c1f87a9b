"""A click group that imports a command only when that command runs, shows its help or completes its options."""

import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from .command_table import CommandEntry

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """The commands of a table, in the order of the table.

    Listing the commands and completing their names reads the table alone.
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
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.line) for name, entry in self._entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self._entries if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self._entries[name].line) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)  # the group's own options
