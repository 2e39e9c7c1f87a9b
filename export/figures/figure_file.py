"""Files that figures are drawn to: checked before the drawing, and written whole or not at all."""

from pathlib import Path
from typing import Any

from ...runtime.errors import OutputError
from ...runtime.extras import require
from ...runtime.system.outputs.partial_output import partial_output, require_file, translated_errors

__all__ = ["check_figure_file", "new_figure", "write_figure"]

_ENDINGS = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 120
_WIDTH = 12.0  # inches


def check_figure_file(path: Path) -> None:
    """Check that a figure can be drawn to a file.

    Raises:
        OutputError: the file ends in none of .png, .svg and .pdf, or it cannot have that name (see `require_file`).
        MissingExtra: matplotlib is not installed.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise OutputError(f"cannot draw to {path}: end its name in {', '.join(_ENDINGS)}")
    require_file(path)
    require("matplotlib.figure", extra="plot")


def new_figure(height: float) -> Any:
    """Return a matplotlib `Figure` of that height, in inches, and 12 inches wide.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return require("matplotlib.figure", extra="plot").Figure(figsize=(_WIDTH, height), layout="constrained")


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure to a `.png`, `.svg` or `.pdf` file. An existing file is replaced.

    Raises:
        OutputError: as in `check_figure_file`, or the file cannot be written.
    """
    check_figure_file(path)
    with partial_output(path, overwrite=True) as partial, translated_errors(path):
        figure.savefig(partial, dpi=_DOTS_PER_INCH)
