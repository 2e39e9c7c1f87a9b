"""The families of the exporter: where the reference model and the parameters of each one stand. A new family is one
line here, next to its line in `latentrt.runtime.config.families`.

Modules are named as text and imported when they are first needed: a checkpoint is read without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["EXPORTED_FAMILIES", "ExportedFamily"]


@dataclass(frozen=True)
class ExportedFamily:
    """Where the parts of a family stand in the exporter, each as "module:name".

    Attributes:
        model: the reference model, a `torch.nn.Module` made from a config; relative to `latentrt.export.models`.
        parameters: a `FamilyParameters`; relative to `latentrt.export.checkpoints`.
    """

    model: str
    parameters: str


EXPORTED_FAMILIES: Mapping[str, ExportedFamily] = {
    "AutoencoderKL": ExportedFamily("autoencoder_kl:AutoencoderKL", "kl_parameters:KL"),
    "AutoencoderKLFlux2": ExportedFamily("autoencoder_kl_flux2:AutoencoderKLFlux2", "flux2_parameters:FLUX2"),
    "AutoencoderKLLTX2Video": ExportedFamily("autoencoder_kl_ltx2:AutoencoderKLLTX2Video", "ltx2_parameters:LTX2"),
}
"""By diffusers' name of the model's class."""
