"""An option that was renamed and still answers to its earlier names."""

from typing import Any

import click

__all__ = ["RenamedOption"]


class RenamedOption(click.Option):
    """An option with former names, which the parser accepts and neither help nor completion shows.

    In `former` a name after a slash, as in "--exact-tiles/--no-exact-tiles", turns a flag off.

    Attributes:
        former_opts: the former names.
        former_secondary_opts: the former names that turn a flag off.
    """

    def __init__(self, *arguments: Any, former: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        on, _, off = former.partition("/")
        self.former_opts = [on]
        self.former_secondary_opts = [off] if off else []

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        shown = self.opts, self.secondary_opts
        self.opts = [*self.opts, *self.former_opts]
        self.secondary_opts = [*self.secondary_opts, *self.former_secondary_opts]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts, self.secondary_opts = shown
