"""One digest for a bundle: every copy has the same digest, and it changes with anything that changes pixels.

The digest is "sha256:" and the hexadecimal SHA-256 of a JSON text. The text is an object with these keys:

    "schema_version", "family", "config", "latent_statistics", "components"   as in manifest.json
    "files"    a list of [name, size in bytes, SHA-256], one for each graph and weights file, sorted by name

The text is `json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)`, without keys whose value is
null. So a later version may add a field that is null for older bundles, and their digests stay.

The digest does not cover the engines (each has a record with its own hash, and building an engine does not change the
bundle's digest), the reports of `verify` and `--check-range`, and the versions that produced the bundle. It covers the
hashes in the manifest. `Manifest.verify_hashes` compares these with the files.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...tiling.argument_names import argument
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
    """The digest that a user gives, if it is one.

    Raises:
        InputError: it does not have the form that `latentrt inspect` prints.
    """
    if not isinstance(digest, str) or not _FORM.fullmatch(digest):
        raise InputError(
            f"{argument('digest')} must be sha256: and 64 hexadecimal digits in lower case, as `latentrt inspect` "
            "prints it, got "
            f"{digest if isinstance(digest, str) else type(digest).__name__!r}"
        )
    return digest


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(inner) for inner in value]
    return value
