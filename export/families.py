"""The families of the exporter: the reference model and the parameters of each family.

A new family is one line here and one line in `latentrt.runtime.config.families`. Modules are named as text and imported
when they are first needed, so that a checkpoint is read without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["EXPORTED_FAMILIES", "ExportedFamily"]


@dataclass(frozen=True)
class ExportedFamily:
    """The parts of a family in the exporter, each as "module:name".

    Attributes:
        model: the reference model, a `torch.nn.Module` made from a config; relative to `latentrt.export.models`.
        parameters: a `FamilyParameters`; relative to `latentrt.export.checkpoints.parameters`.
    """

    model: str
    parameters: str


EXPORTED_FAMILIES: Mapping[str, ExportedFamily] = {
    "AutoencoderKL": ExportedFamily("autoencoder_kl:AutoencoderKL", "kl:KL"),
    "AutoencoderKLFlux2": ExportedFamily("autoencoder_kl_flux2:AutoencoderKLFlux2", "flux2:FLUX2"),
    "AutoencoderKLLTX2Video": ExportedFamily("autoencoder_kl_ltx2:AutoencoderKLLTX2Video", "ltx2:LTX2"),
}
"""By diffusers' name of the model's class."""
