"""JSON files of a checkpoint: config.json and indices of shards."""

from pathlib import Path
from typing import Any

from ...runtime.errors import CheckpointError
from ...runtime.system.json_file import read_json
from ...runtime.system.stand_in import StandIn

__all__ = ["read_json_object"]

# Largest file that is parsed. A config has a few kilobytes, and the index of a very large model has less than 1 MB.
_MAX_BYTES = 8 << 20


def read_json_object(path: Path) -> dict[str, Any]:
    """Parse a file that holds one JSON object.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, is larger than 8 MiB, or does not hold a JSON object.
    """
    try:
        values = read_json(path, _MAX_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except StandIn as error:
        raise CheckpointError(f"{path} is not the JSON file of a model: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}; fetch it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(values).__name__}")
    return values
