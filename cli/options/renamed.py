"""An option that was renamed, and answers to its former names with a warning for one minor version."""

import logging
from collections.abc import Mapping
from typing import Any

import click

from ...former_names import FormerName

__all__ = ["RenamedOption"]

_log = logging.getLogger(__name__)


class RenamedOption(click.Option):
    """An option with former names, which the parser accepts and neither help nor completion shows.

    In `former` a name after a slash, as in "--exact-tiles/--no-exact-tiles", turns a flag off. A former name logs the
    sentence of its `FormerName`.

    Attributes:
        former_opts: the former names.
        former_secondary_opts: the former names that turn a flag off.
        since: the minor version that renamed the option, such as "0.1".
    """

    def __init__(self, *arguments: Any, former: str, since: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        on, _, off = former.partition("/")
        self.former_opts = [on]
        self.former_secondary_opts = [off] if off else []
        self.since = since

    @property
    def former_names(self) -> tuple[FormerName, ...]:
        """The former names as values."""
        on = [FormerName(name, self.opts[0], self.since) for name in self.former_opts]
        return (*on, *(FormerName(name, self.secondary_opts[0], self.since) for name in self.former_secondary_opts))

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        shown = self.name, self.opts, self.secondary_opts
        self.name, self.opts, self.secondary_opts = self._destination, self.former_opts, self.former_secondary_opts
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.name, self.opts, self.secondary_opts = shown

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        if self._destination in opts:
            value = opts[self._destination]
            turned_off = value is False and bool(self.former_secondary_opts)
            _log.warning("%s", self.former_names[-1 if turned_off else 0].sentence)
            opts = {**opts, str(self.name): value}
        return super().handle_parse_result(ctx, opts, args)

    @property
    def _destination(self) -> str:
        """Where the parser puts the value of a former name."""
        return f"former {self.former_opts[0]}"
