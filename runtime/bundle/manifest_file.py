"""Reads the file `manifest.json` as JSON values of today's schema. What the values mean is checked by `manifest`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...tiling.plain_text import as_line, shown
from ..errors import BundleError
from ..system.json_file import read_json
from ..system.stand_in import StandIn
from .not_a_bundle import MANIFEST_NAME, not_a_bundle
from .schemas import current_values

__all__ = ["MOST_BYTES", "damaged", "read_manifest", "wrong_field"]

MOST_BYTES = 8 << 20
"""The largest manifest.json that is read. A large bundle with engines has less than 1 MB."""


def read_manifest(given: Path, folder: Path) -> Mapping[str, Any]:
    """The JSON values of a bundle's manifest.

    Args:
        given: the path as the user gave it.
        folder: the same path, resolved.

    Raises:
        BundleError: no bundle there, an unfinished one, a file that is no manifest, or a schema that is not read.
    """
    from ..system.outputs.partial_names import is_partial

    path = folder / MANIFEST_NAME
    if is_partial(folder):
        raise BundleError(f"{folder} is the rest of an interrupted export, not a bundle: delete it and export again")
    try:
        values = read_json(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(not_a_bundle(given, folder)) from None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
    except StandIn as error:
        raise BundleError(f"{path} is not a manifest: {error}") from error
    except ValueError as error:
        raise BundleError(f"{path} is not a manifest: {error}; export again") from error
    if not isinstance(values, dict) or "schema_version" not in values:
        raise BundleError(f"{path} is not a manifest: it is damaged or not LatentRT's; export again")
    try:
        return current_values(values, folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise wrong_field(path, error) from error


def damaged(path: Path, error: ValueError) -> BundleError:
    """The error for a manifest whose values contradict each other or are of the wrong kind."""
    return BundleError(f"{path} is damaged: {as_line(str(error))}; copy the bundle again, or export again")


def wrong_field(path: Path, error: Exception) -> BundleError:
    """The error for a manifest that lacks a field, or has a field of the wrong kind."""
    return BundleError(f"{path} is damaged: a field is missing or of the wrong kind ({shown(error)})")
