"""Schemas of nodes."""

import enum
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Boolean",
    "Combo",
    "ComfyNode",
    "Float",
    "FolderType",
    "Input",
    "Latent",
    "NodeOutput",
    "Output",
    "Schema",
    "String",
    "Vae",
    "Video",
]


class FolderType(enum.Enum):
    """The folders whose files a user sees."""

    output = "output"


class Input:
    """One input of a node."""

    def __init__(self, id: str, **settings: Any) -> None:
        self.id, self.settings = id, settings


class Output:
    """One output of a node."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings


class _Type:
    Input = Input
    Output = Output


class Boolean(_Type):
    """True or False."""


class Combo(_Type):
    """One of several texts."""


class Float(_Type):
    """A number."""


class Latent(_Type):
    """A dict with latents under "samples"."""


class String(_Type):
    """A text."""


class Vae(_Type):
    """A VAE object."""


class Video(_Type):
    """A video."""


@dataclass
class Schema:
    """What a node is called, takes and gives."""

    node_id: str
    display_name: str
    category: str
    inputs: list[Input]
    outputs: list[Output]
    description: str = ""
    is_output_node: bool = False
    hidden: list[Any] = field(default_factory=list)


class NodeOutput:
    """What a node gives."""

    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui


class ComfyNode:
    """The base of all nodes."""

    @classmethod
    def define_schema(cls) -> Schema:
        """The node's inputs and outputs."""
        raise NotImplementedError
