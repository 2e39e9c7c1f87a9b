"""Flax folders: `config.json` and `diffusion_flax_model.msgpack`, as diffusers' FlaxAutoencoderKL wrote them.

diffusers has dropped Flax. The rules are those of its converter (last in modeling_pytorch_flax_utils): a trailing `_0`
of a name is the index of a list, convolutions have the layout HWIO, and matrices are transposed.
"""

import re
from pathlib import Path

from ...runtime.errors import CheckpointError
from .checkpoint import LazyTensor
from .diffusers_folder import CONFIG_NAME, read_config, rename_old_attention
from .found_checkpoint import FoundCheckpoint
from .listing import listed
from .msgpack_file import read_flax_arrays

__all__ = ["FLAX_NAME", "open_flax_folder"]

FLAX_NAME = "diffusion_flax_model.msgpack"
_INDEX = re.compile(r"_(\d+)$")


def open_flax_folder(folder: Path) -> FoundCheckpoint:
    """Read the config and the weights of a folder into memory.

    Raises:
        CheckpointError: the config or the weights are missing or damaged.
        MissingExtra: msgpack is not installed.
    """
    fields = read_config(folder)
    if fields.get("_class_name") == "FlaxAutoencoderKL":
        fields["_class_name"] = "AutoencoderKL"
    fields.pop("dtype", None)  # Flax's computation dtype, which is not a field of the config
    arrays = read_flax_arrays(folder / FLAX_NAME)
    if {names[:1] for names in arrays} == {("params",)}:
        arrays = {names[1:]: tensor for names, tensor in arrays.items()}
    tensors: dict[str, LazyTensor] = {}
    for names, tensor in arrays.items():
        name, renamed = _diffusers_tensor(names, tensor)
        if name in tensors:
            raise CheckpointError(f"{folder / FLAX_NAME} holds {listed([name])} twice: it is damaged; fetch it again")
        tensors[name] = renamed
    files = folder / CONFIG_NAME, folder / FLAX_NAME
    return FoundCheckpoint(folder, fields, tensors, format="Flax folder", files=files)


def _diffusers_tensor(names: tuple[str, ...], tensor: LazyTensor) -> tuple[str, LazyTensor]:
    *places, last = names or ("",)
    if last == "kernel" and len(tensor.shape) == 4:
        tensor = tensor.transposed((3, 2, 0, 1))
    elif last == "kernel" and len(tensor.shape) == 2:
        tensor = tensor.transposed((1, 0))
    leaf = "weight" if last in ("kernel", "scale") else last
    return rename_old_attention(".".join([*(_INDEX.sub(r".\1", place) for place in places), leaf])), tensor
