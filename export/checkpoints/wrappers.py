"""Names that training programs put around those of a model's parameters: `module.`, `_orig_mod.`, `first_stage_model.`.

torch.compile, DistributedDataParallel, Lightning and others wrap a model, and each adds its own part to every name.
"""

import re
from collections.abc import Iterable, Mapping

from .checkpoint import LazyTensor

__all__ = ["VAE_PREFIX", "common_wrapper", "without_inner_wrappers"]

# Parts that wrappers of a module add, also in the middle of a name. No model calls a module so.
_INNER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
_OUTER = r"(?:module|model|net|network|state_dict|generator)"
_VAE = r"(?:first_stage_model|vae|autoencoder|vae_model|autoencoder_kl)"
VAE_PREFIX = re.compile(rf"(?:{_OUTER}\.){{0,4}}(?:{_VAE}\.)?(?:{_OUTER}\.){{0,4}}")
"""What may stand before the name of a VAE's parameter, from the start of a name: nothing, or names of wrappers."""
_WRAPPER = re.compile(rf"(?:(?:{_OUTER}|{_VAE})\.){{1,8}}")


def without_inner_wrappers(tensors: Mapping[str, LazyTensor]) -> Mapping[str, LazyTensor]:
    """The tensors without the parts of names that torch.compile and FSDP add. Where two names become the same, all
    names stay as they are."""
    if not any(_INNER.search(name) for name in tensors):
        return tensors
    renamed = {_INNER.sub("", name): tensor for name, tensor in tensors.items()}
    return renamed if len(renamed) == len(tensors) else tensors


def common_wrapper(names: Iterable[str]) -> str:
    """The names of wrappers that every name starts with, such as "module."; "" if there are none."""
    common: str | None = None
    for name in names:
        match = _WRAPPER.match(name)
        prefix = match[0] if match else ""
        if common is None or not prefix or common.startswith(prefix):
            common = prefix
        elif not prefix.startswith(common):
            return ""
        if not common:
            return ""
    return common or ""
