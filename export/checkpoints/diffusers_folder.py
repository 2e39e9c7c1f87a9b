"""diffusers folders: `config.json` next to weights in one file, in shards, or in variants (fp16, bf16, ema)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.errors import CheckpointError
from .checkpoint import LazyTensor
from .file_kind import PICKLE_ENDINGS
from .found_checkpoint import FoundCheckpoint
from .json_file import read_json_object
from .listing import listed
from .shards import open_shards
from .weights import Weights, open_weights
from .wrappers import common_wrapper, without_inner_wrappers

__all__ = [
    "CONFIG_NAME",
    "TRAINING_COUNTER",
    "WEIGHTS_NAME",
    "WEIGHTS_STEM",
    "WeightsFile",
    "choose_weights",
    "open_diffusers_folder",
    "read_config",
    "rename_old_attention",
    "weights_files",
]

CONFIG_NAME = "config.json"
WEIGHTS_STEM = "diffusion_pytorch_model"
WEIGHTS_NAME = f"{WEIGHTS_STEM}.safetensors"

# Parameter names of the attention before diffusers 0.17, and their present names.
_OLD_ATTENTION = re.compile(r"(mid_block\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

_FORMAT = "diffusers folder"
TRAINING_COUNTER = "bn.num_batches_tracked"  # an integer of FLUX.2's batch norm that only training uses
# Names that diffusers gives to a file of weights, and to an index of shards. The variant stands before the last ending.
_FILE = re.compile(rf"{WEIGHTS_STEM}(?:\.(?P<variant>[^.]+))?\.(?P<ending>safetensors|bin)")
_INDEX = re.compile(rf"{WEIGHTS_STEM}\.(?P<ending>safetensors|bin)\.index(?:\.(?P<variant>[^.]+))?\.json")


@dataclass(frozen=True)
class WeightsFile:
    """A file that stands for all weights of a folder: a file of weights, or an index of shards.

    Attributes:
        name: name of the file.
        variant: name of the variant; "" for the plain weights.
        pickle: True for a pickle, False for safetensors.
    """

    name: str
    variant: str
    pickle: bool

    @property
    def sharded(self) -> bool:
        """True if the file is an index of shards."""
        return self.name.endswith(".json")


def open_diffusers_folder(
    folder: Path, *, variant: str | None = None, file: str | None = None, allow_pickle: bool = False
) -> FoundCheckpoint:
    """Read the config of a folder and the headers of its weights.

    Args:
        folder: the folder.
        variant: the variant to take. None takes the plain weights, or the only variant of a folder without them.
        file: name of the weights file; replaces the choice by `variant`.
        allow_pickle: read the tensors of a pickle.

    Raises:
        CheckpointError: the config or the weights are missing, damaged or ambiguous, or the weights are a pickle.
    """
    fields = read_config(folder)
    names = [path.name for path in folder.iterdir() if path.is_file()]
    if file is not None:
        opener = open_shards if file.endswith(".json") else open_weights
        weights = opener(folder / file, allow_pickle=allow_pickle)
        files = (folder / CONFIG_NAME, *weights.files)
        return FoundCheckpoint(folder / file, fields, _renamed(weights), _FORMAT, files=files)
    chosen = choose_weights(folder, names, variant, allow_pickle)
    opener = open_shards if chosen.sharded else open_weights
    weights = opener(folder / chosen.name, allow_pickle=allow_pickle)
    notes = () if chosen.variant == (variant or "") else (f"the weights are the variant {chosen.variant}",)
    files = (folder / CONFIG_NAME, *weights.files)
    return FoundCheckpoint(folder, fields, _renamed(weights), _format(chosen), notes=notes, files=files)


def weights_files(names: list[str]) -> list[WeightsFile]:
    """List the files that each stand for all weights of a folder.

    Args:
        names: names of the folder's files.

    Returns:
        The files in order of preference: safetensors before pickles, plain weights before variants, one file before
        shards.
    """
    found = []
    for name in names:
        match = _FILE.fullmatch(name) or _INDEX.fullmatch(name)
        # `diffusion_pytorch_model.fp16-00001-of-00002.safetensors` is one shard; its index stands for it.
        if match and name.isprintable() and not re.search(r"-\d+-of-\d+", match["variant"] or ""):
            found.append(WeightsFile(name, match["variant"] or "", match["ending"] == "bin"))
    return sorted(found, key=lambda file: (file.pickle, file.variant, file.sharded))


def rename_old_attention(name: str) -> str:
    """Translate an attention parameter's name of diffusers < 0.17; other names are returned unchanged."""
    match = _OLD_ATTENTION.search(name)
    if match is None:
        return name
    return f"{name[: match.start()]}{match[1]}.{_NEW_ATTENTION[match[2]]}.{match[3]}"


def _renamed(weights: Weights) -> dict[str, LazyTensor]:
    tensors: dict[str, LazyTensor] = {}
    named = without_inner_wrappers(weights.tensors)
    wrapper = common_wrapper(named)
    for name, tensor in named.items():
        inner = name.removeprefix(wrapper)
        if inner == TRAINING_COUNTER:
            continue
        renamed = rename_old_attention(inner)
        if renamed != inner and len(tensor.shape) == 4 and tensor.shape[2:] == (1, 1):
            tensor = tensor.reshaped(tensor.shape[:2])
        if renamed in tensors:
            raise CheckpointError(
                f"{weights.path} holds {listed([renamed])} twice, once by its old name: it is damaged; fetch it again"
            )
        tensors[renamed] = tensor
    return tensors


def read_config(folder: Path) -> dict[str, Any]:
    """Read the `config.json` of a folder.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        return read_json_object(folder / CONFIG_NAME)
    except FileNotFoundError:
        has = (
            f"it has {WEIGHTS_NAME} but no {CONFIG_NAME}" if (folder / WEIGHTS_NAME).is_file() else f"no {CONFIG_NAME}"
        )
        hint = "; for a pipeline, give its vae subfolder" if (folder / "model_index.json").is_file() else ""
        raise CheckpointError(f"{folder} is not a diffusers model folder: {has}{hint}") from None


def choose_weights(place: object, names: list[str], variant: str | None, allow_pickle: bool) -> WeightsFile:
    """Choose the file of weights to read.

    Args:
        place: the folder or model, for messages.
        names: names of the files there.
        variant: the variant to take. None takes the plain weights, or the only variant if there are none.
        allow_pickle: accept pickles.

    Raises:
        CheckpointError: no file fits, or several variants do.
    """
    usable = [file for file in weights_files(names) if allow_pickle or not file.pickle]
    if variant is not None:
        for file in usable:
            if file.variant == variant:
                return file
        here = sorted({file.variant for file in usable if file.variant}) or ["none"]
        raise CheckpointError(f"{place} has no weights of the variant {variant!r}; its variants: {', '.join(here)}")
    plain = [file for file in usable if not file.variant]
    variants = sorted({file.variant for file in usable})
    if plain or len(variants) == 1:
        return (plain or usable)[0]
    if variants:
        raise CheckpointError(
            f"{place} has no {WEIGHTS_NAME} but several variants ({', '.join(variants)}): choose one with --variant"
        )
    raise CheckpointError(_no_weights(place, names))


def _no_weights(place: object, names: list[str]) -> str:
    pickles = sorted(name for name in names if Path(name).suffix in PICKLE_ENDINGS)
    if pickles:
        return (
            f"{place} has its weights only as a pickle ({pickles[0]}), which can run code when it is loaded, so it is "
            f"not opened: save the model as safetensors (diffusers: save_pretrained(..., safe_serialization=True)), "
            f"or pass --allow-pickle, which reads tensors and nothing else"
        )
    others = sorted(name for name in names if name.endswith(".safetensors"))
    hint = f"; it has {listed(others)}, a name that diffusers would not read either: rename it" if others else ""
    return f"{place} has {CONFIG_NAME} but no {WEIGHTS_NAME}: the weights are missing{hint}"


def _format(chosen: WeightsFile) -> str:
    kinds = [kind for kind, is_it in (("sharded", chosen.sharded), ("pickle", chosen.pickle)) if is_it]
    kinds += [f"variant {chosen.variant}"] if chosen.variant else []
    return _FORMAT + (f" ({', '.join(kinds)})" if kinds else "")
