"""Checkpoints: safetensors files, configs, indexes of shards, torch's two kinds of pickles, Flax files."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import safetensors.numpy
from fuzz_headers import msgpack_file, safetensors_file

from latentrt.export.checkpoints import open_checkpoint
from latentrt.export.checkpoints.json_file import read_json_object
from latentrt.export.checkpoints.msgpack_file import read_flax_arrays
from latentrt.export.checkpoints.parameters.of_config import parameters_of
from latentrt.export.checkpoints.source import SourceOptions
from latentrt.runtime.config.families import config_from_dict

from ..material import Material
from ..mutations import mixed, mutated_bytes, mutated_json, mutated_safetensors, mutated_text
from .subject import Maker, Subject

__all__ = ["CHECKPOINTS"]

_WEIGHTS = "diffusion_pytorch_model"
_MOST_LAYERS = 1000  # of a config whose parameters are listed; `open_checkpoint` compares with the tensors first
_FLUX_2 = {"_class_name": "AutoencoderKLFlux2", "block_out_channels": [32, 64, 64, 64], "latent_channels": 8}
_LFS = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def _read(path: Path, **options: Any) -> None:
    """Open a checkpoint, and read each tensor."""
    for tensor in open_checkpoint(path, options=SourceOptions(**options)).tensors.values():
        tensor.read()


def _copies(material: Material, place: Path) -> None:
    """A folder of each model, for files that are read together with their neighbours."""
    for name, model in (("image", material.image_model), ("video", material.video_model)):
        if not (place / name).exists():
            shutil.copytree(model, place / name)


def _safetensors(material: Material, place: Path) -> Subject:
    _copies(material, place)
    names = [f"{kind}/{_WEIGHTS}.safetensors" for kind in ("image", "video")]
    seeds = {name: (place / name).read_bytes() for name in names}
    return Subject(seeds, _read, mixed(mutated_safetensors, mutated_safetensors, safetensors_file, mutated_bytes))


def _config(material: Material, place: Path) -> Subject:
    _copies(material, place)
    seeds = {f"{kind}/config.json": (place / kind / "config.json").read_bytes() for kind in ("image", "video")}
    return Subject(seeds, lambda path: _read(path.parent), mutated_json)


def _config_fields(material: Material, place: Path) -> Subject:
    """The config of each family alone, with all its fields."""
    models = [json.loads((of / "config.json").read_bytes()) for of in (material.image_model, material.video_model)]
    configs = [config_from_dict(values) for values in [*models, _FLUX_2]]
    seeds = {f"{config.family}.json": json.dumps(config.to_dict()).encode() for config in configs}
    for config, values in zip(configs, [*models, _FLUX_2], strict=True):
        seeds[f"{config.family}_short.json"] = json.dumps(values).encode()

    def read(path: Path) -> None:
        config = config_from_dict(read_json_object(path))
        config.to_dict()
        if config.layer_count <= _MOST_LAYERS:
            parameters_of(config)

    return Subject(seeds, read, mutated_json)


def _index(material: Material, place: Path) -> Subject:
    folder = place / "sharded"
    if not folder.exists():
        folder.mkdir(parents=True)
        shutil.copy(material.image_model / "config.json", folder)
        tensors = safetensors.numpy.load_file(material.image_model / f"{_WEIGHTS}.safetensors")
        names = sorted(tensors)
        places: dict[str, str] = {}
        for number, part in enumerate((names[::2], names[1::2]), 1):
            file = f"{_WEIGHTS}-0000{number}-of-00002.safetensors"
            safetensors.numpy.save_file({name: tensors[name] for name in part}, folder / file)
            places |= dict.fromkeys(part, file)
        index = {"metadata": {"total_size": 1}, "weight_map": places}
        (folder / f"{_WEIGHTS}.safetensors.index.json").write_text(json.dumps(index))
    name = f"sharded/{_WEIGHTS}.safetensors.index.json"
    return Subject({name: (place / name).read_bytes()}, lambda path: _read(path.parent), mutated_json)


def _pickle(*, zipped: bool) -> Maker:
    """torch's format since 1.6 is a zip archive; before, it was a row of pickles."""

    def make(material: Material, place: Path) -> Subject:
        import torch

        folder = place / "pickled"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(material.image_model / "config.json", folder)
        tensors = safetensors.numpy.load_file(material.image_model / f"{_WEIGHTS}.safetensors")
        path = folder / f"{_WEIGHTS}.bin"
        torch.save(
            {name: torch.from_numpy(array) for name, array in tensors.items()},
            path,
            _use_new_zipfile_serialization=zipped,
        )
        name = f"pickled/{_WEIGHTS}.bin"
        return Subject({name: path.read_bytes()}, lambda path: _read(path, allow_pickle=True))

    return make


def _flax(material: Material, place: Path) -> Subject:
    def stored(array: np.ndarray[Any, Any]) -> msgpack.ExtType:
        return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))

    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tree = {"encoder": {"conv_in": {"kernel": stored(kernel), "bias": stored(kernel[0, 0])}}, "quant": stored(kernel)}

    def read(path: Path) -> None:
        for tensor in read_flax_arrays(path).values():
            tensor.read()

    return Subject({"model.msgpack": msgpack.packb(tree)}, read, mixed(mutated_bytes, msgpack_file))


def _lfs(material: Material, place: Path) -> Subject:
    """The text that stands for a file which Git LFS did not fetch."""
    _copies(material, place)
    return Subject({f"image/{_WEIGHTS}.safetensors": _LFS.encode()}, _read, mutated_text, is_valid=False)


CHECKPOINTS: Mapping[str, Maker] = {
    "safetensors": _safetensors,
    "config": _config,
    "config_fields": _config_fields,
    "safetensors_index": _index,
    "torch_zip": _pickle(zipped=True),
    "torch_legacy": _pickle(zipped=False),
    "flax": _flax,
    "lfs_pointer": _lfs,
}
"""Parsers of checkpoints."""
