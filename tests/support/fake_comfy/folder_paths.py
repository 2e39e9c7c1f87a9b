"""ComfyUI's folders. Tests set `models_dir` and `output_dir`."""

from pathlib import Path

__all__ = [
    "add_model_folder_path",
    "added",
    "get_filename_list",
    "get_folder_paths",
    "get_full_path",
    "get_output_directory",
    "get_save_image_path",
    "models_dir",
    "output_dir",
]

models_dir = ""
output_dir = ""
added: dict[str, list[str]] = {}


def add_model_folder_path(folder_name: str, full_folder_path: str) -> None:
    """Add a folder of models of one kind."""
    folders = added.setdefault(folder_name, [])
    if full_folder_path not in folders:
        folders.append(full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    """The folders of one kind."""
    return added.get(folder_name, [str(Path(models_dir) / folder_name)])


def get_filename_list(folder_name: str) -> list[str]:
    """The files of one kind."""
    return sorted(file.name for root in get_folder_paths(folder_name) for file in Path(root).glob("*.*"))


def get_full_path(folder_name: str, filename: str) -> str | None:
    """The path of a file of one kind."""
    paths = [Path(root) / filename for root in get_folder_paths(folder_name)]
    return next((str(path) for path in paths if path.is_file()), None)


def get_output_directory() -> str:
    """The folder of results."""
    return output_dir


def get_save_image_path(prefix: str, folder: str, width: int = 0, height: int = 0) -> tuple[str, str, int, str, str]:
    """The folder, name, counter, subfolder and prefix of the next result."""
    path = Path(folder) / prefix
    path.parent.mkdir(parents=True, exist_ok=True)
    return (
        str(path.parent),
        path.name,
        len(list(path.parent.glob(f"{path.name}_*"))) + 1,
        str(Path(prefix).parent),
        prefix,
    )
