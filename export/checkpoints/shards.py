"""Sharded weights: an index file names the file of each tensor."""

import os
from pathlib import Path

from ...runtime.errors import CheckpointError
from ...tiling.plain_text import shown
from .checkpoint import LazyTensor
from .json_file import read_json_object
from .listing import listed
from .weights import Weights, open_weights

__all__ = ["open_shards", "shard_names"]


def shard_names(index: Path) -> list[str]:
    """Return the files that an index names.

    Raises:
        CheckpointError: the index is damaged, or names files outside its folder.
    """
    names = sorted(set(_places(index).values()))
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise CheckpointError(f"{index} names {shown(name)}, which lies outside its folder; refused")
    return names


def open_shards(index: Path, *, allow_pickle: bool = False) -> Weights:
    """Open the tensors of all shards that an index (`*.index.json`) names.

    Args:
        index: the index.
        allow_pickle: accept shards that are pickles.

    Raises:
        CheckpointError: the index is damaged, names files outside its folder, or disagrees with the shards.
    """
    places = _places(index)
    tensors: dict[str, LazyTensor] = {}
    for file in shard_names(index):
        if not os.path.isfile(index.parent / file):  # noqa: PTH113 # False also for names that no file can have
            raise CheckpointError(f"{index.parent} is incomplete: {file}, which {index.name} names, is missing")
        shard = open_weights(index.parent / file, allow_pickle=allow_pickle).tensors
        misplaced = [name for name in shard if places.get(name) != file]
        absent = [name for name, place in places.items() if place == file and name not in shard]
        if misplaced or absent:
            raise CheckpointError(
                f"{index.name} and {file} disagree about where tensors are ({listed(misplaced + absent)}): "
                f"they are from different downloads; fetch the folder again"
            )
        tensors |= shard
    return Weights(index, tensors, shards=tuple(index.parent / file for file in shard_names(index)))


def _places(index: Path) -> dict[str, str]:
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index} must hold a weight_map from tensors to files: it is damaged; fetch it again")
    return places
