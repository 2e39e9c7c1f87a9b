"""What a node shows."""

from .io import FolderType

__all__ = ["PreviewVideo", "SavedResult"]


class SavedResult(dict[str, str]):
    """A file that a user sees."""

    def __init__(self, filename: str, subfolder: str, type: FolderType) -> None:
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)


class PreviewVideo:
    """Videos that play in the node."""

    def __init__(self, values: list[SavedResult]) -> None:
        self.values = values
