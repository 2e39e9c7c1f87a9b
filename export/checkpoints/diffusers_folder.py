"""diffusers folders: `config.json` beside weights that are whole, sharded, or of a variant (fp16, bf16, ema)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.errors import CheckpointError
from .candidate import Candidate
from .checkpoint import LazyTensor
from .json_file import read_json_object
from .listing import listed
from .pickle_file import PICKLE_ENDINGS
from .shards import open_shards
from .weights import Weights, open_weights

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

# Attention's parameter names before diffusers 0.17.
_OLD_ATTENTION = re.compile(r"(mid_block\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

_FORMAT = "diffusers folder"
TRAINING_COUNTER = "bn.num_batches_tracked"  # of FLUX.2's batch norm; used in training alone, and no float
# How diffusers names a file of weights or an index of shards; the variant stands before the last ending.
_FILE = re.compile(rf"{WEIGHTS_STEM}(?:\.(?P<variant>[^.]+))?\.(?P<ending>safetensors|bin)")
_INDEX = re.compile(rf"{WEIGHTS_STEM}\.(?P<ending>safetensors|bin)\.index(?:\.(?P<variant>[^.]+))?\.json")


@dataclass(frozen=True)
class WeightsFile:
    """A file that stands for all weights; `variant` is "" for the plain ones."""

    name: str
    variant: str
    pickle: bool

    @property
    def sharded(self) -> bool:
        return self.name.endswith(".json")


def open_diffusers_folder(
    folder: Path, *, variant: str | None = None, file: str | None = None, allow_pickle: bool = False
) -> Candidate:
    """Read a folder's config and its weights' headers.

    Without `variant` the plain weights are taken, and where there are none, the only variant that there is. `file`
    names the weights instead.

    Raises:
        CheckpointError: config or weights are missing, damaged or ambiguous, or the weights are a pickle.
    """
    fields = read_config(folder)
    names = [path.name for path in folder.iterdir() if path.is_file()]
    if file is not None:
        opener = open_shards if file.endswith(".json") else open_weights
        weights = opener(folder / file, allow_pickle=allow_pickle)
        return Candidate(folder / file, fields, _renamed(weights), _FORMAT)
    chosen = choose_weights(folder, names, variant, allow_pickle)
    opener = open_shards if chosen.sharded else open_weights
    weights = opener(folder / chosen.name, allow_pickle=allow_pickle)
    notes = () if chosen.variant == (variant or "") else (f"the weights are the variant {chosen.variant}",)
    return Candidate(folder, fields, _renamed(weights), _format(chosen), notes=notes)


def weights_files(names: list[str]) -> list[WeightsFile]:
    """Which of a folder's files stand for all its weights: safetensors before pickles, plain before variants, whole
    before sharded."""
    found = []
    for name in names:
        match = _FILE.fullmatch(name) or _INDEX.fullmatch(name)
        # `diffusion_pytorch_model.fp16-00001-of-00002.safetensors` is one shard, which only an index stands for.
        if match and name.isprintable() and not re.search(r"-\d+-of-\d+", match["variant"] or ""):
            found.append(WeightsFile(name, match["variant"] or "", match["ending"] == "bin"))
    return sorted(found, key=lambda file: (file.pickle, file.variant, file.sharded))


def rename_old_attention(name: str) -> str:
    """A parameter's name of today, for the attention names of old files; other names as they are."""
    match = _OLD_ATTENTION.search(name)
    if match is None:
        return name
    return f"{name[: match.start()]}{match[1]}.{_NEW_ATTENTION[match[2]]}.{match[3]}"


def _renamed(weights: Weights) -> dict[str, LazyTensor]:
    tensors: dict[str, LazyTensor] = {}
    for name, tensor in weights.tensors.items():
        if name == TRAINING_COUNTER:
            continue
        renamed = rename_old_attention(name)
        if renamed != name and len(tensor.shape) == 4 and tensor.shape[2:] == (1, 1):
            tensor = tensor.reshaped(tensor.shape[:2])
        if renamed in tensors:
            raise CheckpointError(
                f"{weights.path} holds {listed([renamed])} twice, once by its old name: it is damaged; fetch it again"
            )
        tensors[renamed] = tensor
    return tensors


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's `config.json`.

    Raises:
        CheckpointError: it is missing or damaged.
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
    """Which of the files called `names` to read; `place` is where they are, for messages.

    Raises:
        CheckpointError: none, or several and no way to tell.
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
    hint = f"; it has {listed(others)}, which diffusers would not read either: rename it" if others else ""
    return f"{place} has {CONFIG_NAME} but no {WEIGHTS_NAME}: the weights are missing{hint}"


def _format(chosen: WeightsFile) -> str:
    kinds = [kind for kind, is_it in (("sharded", chosen.sharded), ("pickle", chosen.pickle)) if is_it]
    kinds += [f"variant {chosen.variant}"] if chosen.variant else []
    return _FORMAT + (f" ({', '.join(kinds)})" if kinds else "")
