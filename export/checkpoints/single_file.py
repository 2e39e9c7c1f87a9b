"""Single files with a VAE in them, alone or among other models: find the VAE and the convention of its names."""

from dataclasses import replace
from pathlib import Path

from ...runtime.errors import CheckpointError
from .found_checkpoint import FoundCheckpoint
from .ldm import open_ldm
from .listing import listed
from .ltx2_original import open_ltx2_original, refuse_diffusion_decoder
from .weights import Weights, open_weights
from .wrappers import VAE_PREFIX, without_inner_wrappers

__all__ = ["open_single_file"]

# The usual prefixes of a VAE's tensors, for messages. `VAE_PREFIX` has all that are known.
_PREFIXES = ("first_stage_model.", "vae.", "")
# Prefixes of moving averages (EMA), which are taken if there are no other weights.
_AVERAGES = ("ema.", "ema_model.", "model_ema.")
# Tensors that show an image VAE and a video VAE.
_IMAGE = ("encoder.conv_in.weight", "decoder.conv_in.weight")
_VIDEO = ("encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight")


def open_single_file(path: Path, *, allow_pickle: bool = False) -> FoundCheckpoint:
    """Find the VAE in a file and give its tensors their diffusers names. Only the header is read.

    Args:
        path: the file.
        allow_pickle: read the tensors of a pickle.

    Raises:
        CheckpointError: the file holds no known VAE, or more than one.
    """
    weights = open_weights(path, allow_pickle=allow_pickle)
    weights = replace(weights, tensors=without_inner_wrappers(weights.tensors))
    prefixes = _prefixes(weights)
    found = [
        (prefix, opener)
        for prefix in prefixes
        for markers, opener in ((_IMAGE, open_ldm), (_VIDEO, open_ltx2_original))
        if any(prefix + marker in weights.tensors for marker in markers)
    ]
    if not found:
        for prefix in {*prefixes, *_PREFIXES}:  # the file may hold LTX-2.5's diffusion decoder alone
            refuse_diffusion_decoder(weights, [name.removeprefix(prefix) for name in weights.tensors])
        raise CheckpointError(_nothing(weights))
    if len(found) > 1:
        places = ", ".join(f"{prefix}encoder/decoder" for prefix, _ in found)
        raise CheckpointError(
            f"{path} holds {len(found)} VAEs ({places}): save the VAE that you want in a file of its own"
        )
    prefix, opener = found[0]
    checkpoint = opener(weights, prefix)
    notes = weights.notes
    if prefix.startswith(_AVERAGES):
        notes = (*notes, f"its only weights are moving averages, under {prefix}")
    return replace(checkpoint, notes=(*notes, *checkpoint.notes))


def _prefixes(weights: Weights) -> list[str]:
    """The prefixes under which a VAE may lie. They are matched from the start of a name, so `audio_vae.encoder` does
    not match."""
    found: dict[str, None] = {}
    averages: dict[str, None] = {}
    for name in weights.tensors:
        for marker in (*_IMAGE, *_VIDEO):
            if not name.endswith(marker):
                continue
            prefix = name.removesuffix(marker)
            average = next((start for start in _AVERAGES if prefix.startswith(start)), "")
            if VAE_PREFIX.fullmatch(prefix.removeprefix(average)):
                (averages if average else found)[prefix] = None
    return list(found or averages)


def _nothing(weights: Weights) -> str:
    names = list(weights.tensors)
    if any(name.startswith("audio_vae.") for name in names):
        return f"{weights.path} holds an audio VAE and no VAE for pictures or video: take the file with the video VAE"
    has = f"it has {listed(names)}" if names else "it has no tensors"
    wanted = ", ".join(prefix + _IMAGE[0] for prefix in _PREFIXES) + f" or {_VIDEO[0]}"
    return f"{weights.path} holds no VAE that is known here: {has}, and a VAE would have {wanted}"
