"""One digest for a bundle: the same for every copy of it, and another one if anything that makes pixels differs.

The digest is "sha256:" and the hexadecimal SHA-256 of a JSON text. The text is an object with these keys:

    "schema_version", "family", "config", "latent_statistics", "components"   as in manifest.json
    "files"    a list of [name, size in bytes, SHA-256], one for each graph and weights file, sorted by name

It is written as `json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)` after every key whose
value is null has been left out. So a later version may add a field that is null for older bundles, and digests stay.

Left out are the engines (each has a record with its own hash, and building one does not change the bundle's digest),
what `verify` and `--check-range` recorded, and what produced the bundle. The digest covers the hashes in the manifest;
that the files have these hashes is a check of its own.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError

__all__ = ["bundle_digest", "checked_digest"]

_COVERED = ("schema_version", "family", "config", "latent_statistics", "components")
_FORM = re.compile(r"sha256:[0-9a-f]{64}")


def bundle_digest(values: Mapping[str, Any], files: Sequence[tuple[str, int, str]]) -> str:
    """The digest of a manifest's JSON values and of its files, each (name, size in bytes, SHA-256)."""
    content = {key: values[key] for key in _COVERED} | {"files": sorted(map(list, files))}
    text = json.dumps(_without_nulls(content), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def checked_digest(digest: object) -> str:
    """A digest as a user gives it.

    Raises:
        InputError: it has not the form that `latentrt inspect` prints.
    """
    if not isinstance(digest, str) or not _FORM.fullmatch(digest):
        raise InputError(
            f"digest must be sha256: and 64 hexadecimal digits in lower case, as `latentrt inspect` prints it, got "
            f"{digest if isinstance(digest, str) else type(digest).__name__!r}"
        )
    return digest


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(inner) for inner in value]
    return value
