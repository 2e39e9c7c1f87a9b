"""The interface for nodes, as far as ours use it."""

from . import io, ui

__all__ = ["ComfyExtension", "InputImpl", "io", "ui"]


class ComfyExtension:
    """A pack of nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes."""
        return []


class InputImpl:
    """The values that nodes make."""

    class VideoFromFile:
        """A video in a file."""

        def __init__(self, file: str) -> None:
            self.file = file
