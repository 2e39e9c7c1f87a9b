"""The options of one command line, as the user typed them: messages name them so, and not by arguments of Python."""

import re
from collections.abc import Sequence

import click

from .renamed import RenamedOption

__all__ = ["TypedOptions"]

_PARAMETERS = {
    "compute_capabilities": "capabilities",
    "crop": "size",
    "exact": "strips",
    "frame_rate": "fps",
    "framewise": "tile",
    "memory_bytes": "memory",
    "min_psnr_db": "min_psnr",
    "overwrite": "force",
    "rng": "seed",
    "temb": "timestep",
    "tile_overlap_factor": "overlap",
    "tile_sample_min_height": "tile",
    "tile_sample_min_num_frames": "tile",
    "tile_sample_min_size": "tile",
    "tile_sample_min_width": "tile",
    "tile_sample_stride_height": "overlap",
    "tile_sample_stride_num_frames": "overlap",
    "tile_sample_stride_width": "overlap",
    "workspace_bytes": "workspace",
}
"""The option of each argument of Python that has another name than its option, without the leading dashes."""


class TypedOptions:
    """Writes options for messages.

    Args:
        command: the command that runs.
        words: the command line after the name of the command.

    Attributes:
        example: the example of the command's help.
    """

    def __init__(self, command: click.Command, words: Sequence[str]) -> None:
        self.example = command.epilog or ""
        self._options = [one for one in command.params if isinstance(one, click.Option)]
        self._words = tuple(words)  # click's parser empties the list

    def spelling(self, name: str, value: str | None) -> str:
        """An argument of Python as its option. `value` is what the message states with it, as Python writes it."""
        wanted = _PARAMETERS.get(name, name).replace("_", "-")
        option = next((one for one in self._options if f"--{wanted}" in _names(one) or one.name == name), None)
        if option is None:
            return f"--{wanted}" if value is None else f"--{wanted} {_as_typed(value)}"
        if value is None:
            return self._name(option)
        if option.is_flag:
            off = option.secondary_opts[0] if option.secondary_opts else f"no {self._name(option)}"
            return self._name(option) if value == "True" else off
        return f"{self._name(option)} {_as_typed(value)}"

    def renamed(self, message: str) -> str:
        """The message with the former name of an option, if the user typed the former name."""
        for option in self._options:
            typed = self._name(option)
            if isinstance(option, RenamedOption) and typed in (*option.former_opts, *option.former_secondary_opts):
                message = re.sub(rf"(?<![\w-]){re.escape(option.opts[0])}(?![\w-])", typed, message)
        return message

    def _name(self, option: click.Option) -> str:
        """The name that the user typed, or else the longest name of the option."""
        typed = [word.partition("=")[0] for word in self._words if word.startswith("-")]
        return next((one for one in _names(option) if one in typed), max(option.opts, key=len))


def _names(option: click.Option) -> list[str]:
    former = [*option.former_opts, *option.former_secondary_opts] if isinstance(option, RenamedOption) else []
    return [*option.opts, *option.secondary_opts, *former]


def _as_typed(value: str) -> str:
    return value.strip("'\"")
