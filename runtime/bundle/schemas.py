"""The schemas of manifests: which this version reads, and how an older manifest becomes one of today's schema.

The number rises only if a reader of the schema before would do something wrong with the bundle. A new field that such a
reader can leave out raises no number. So a manifest of today's schema is read by every version from `FIRST_READER` on.

Schema 1 had streaming graphs that later stages read the states of, and no number of frames for each stage. They cannot
run with today's code, so they are left out. All other graphs are the same in both schemas.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...tiling.plain_text import shown
from ..errors import BundleError

__all__ = ["FIRST_READER", "OLDEST_SCHEMA", "SCHEMA_VERSION", "current_values"]

SCHEMA_VERSION = 2
"""The schema that this version writes."""
OLDEST_SCHEMA = 1
"""The oldest schema that this version reads."""
FIRST_READER = "0.1.0"
"""The first version of latentrt that reads `SCHEMA_VERSION`. Manifests hold it as "first_reader", so that an older
version can name it."""
_VERSION = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,6}){1,3}[A-Za-z0-9.+-]{0,20}")


def current_values(values: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The JSON values of a manifest in the form of `SCHEMA_VERSION`.

    Raises:
        BundleError: the manifest has a schema that this version does not read.
        KeyError, TypeError, AttributeError, ValueError: a field is missing or of the wrong kind.
    """
    version = values["schema_version"]
    if type(version) is not int or not OLDEST_SCHEMA <= version <= SCHEMA_VERSION:
        raise BundleError(_refusal(values, version, folder))
    for older in range(version, SCHEMA_VERSION):
        values = _CONVERSIONS[older](values)
    return values


def _without_streams(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """From schema 1 to schema 2: the streaming graphs go, with the files that no other graph has."""
    components = {name: {**entry, "streams": []} for name, entry in values["components"].items()}
    kept = _files_of(components)
    gone = _files_of(values["components"]) - kept
    engines = [one for one in values.get("engines") or () if one["graph"] not in gone]
    return {
        **values,
        "schema_version": 2,
        "components": components,
        "files": [file for file in values["files"] if file["name"] not in gone],
        "engines": engines,
    }


_CONVERSIONS: dict[int, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {1: _without_streams}
"""By schema: makes values of the next schema."""


def _files_of(components: Mapping[str, Any]) -> set[Any]:
    kinds = ("graphs", "streams", "segments")
    graphs = [graph for entry in components.values() for kind in kinds for graph in entry.get(kind) or ()]
    return {graph[key] for graph in graphs for key in ("file", "weights", "cpu_file") if graph.get(key)}


def _refusal(values: Mapping[str, Any], version: object, folder: Path) -> str:
    from ..extras import installed_version  # imported here: only this message needs it

    own = installed_version("latentrt") or "of an unknown version"
    start = f"{folder} has manifest schema {shown(version)}, and this latentrt ({own}) reads {OLDEST_SCHEMA} to"
    if type(version) is not int or version < OLDEST_SCHEMA:
        return f"{start} {SCHEMA_VERSION}: export the checkpoint again"
    reader = _later_version(values, own)
    update = f"latentrt {reader} or later reads it" if reader else "a later latentrt reads it"
    return f"{start} {SCHEMA_VERSION}: {update}, so update latentrt, or export the checkpoint again"


def _later_version(values: Mapping[str, Any], own: str) -> str | None:
    """The version that a newer manifest names: the first that reads it, or the version that wrote it."""
    produced = values.get("produced_by")
    written = produced.get("latentrt") if isinstance(produced, dict) else None
    for named in (values.get("first_reader"), written):
        if isinstance(named, str) and _VERSION.fullmatch(named) and _numbers(named) > _numbers(own):
            return named
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
