"""The statistics of latents that pipelines read from a VAE: buffers of the module, with diffusers' names."""

import torch

from ...runtime.config.model_config import ModelConfig

__all__ = ["add_statistics"]


def add_statistics(module: torch.nn.Module, config: ModelConfig) -> None:
    """Add the buffers that diffusers' model of this config has.

    Packed latents are normalised by a batch norm `bn`, (4 * latent_channels,) each, as FLUX.2's pipelines read it. The
    latents of clips are normalised by `latents_mean` and `latents_std`, (latent_channels,) each.
    """
    mean, std = config.latents_mean, config.latents_std
    if mean is None or std is None:
        return
    if config.packing is not None:
        fields = config.to_dict()
        norm = torch.nn.BatchNorm1d(len(mean), eps=fields["batch_norm_eps"], affine=False, track_running_stats=True)
        norm.running_mean = torch.tensor(fields["bn_running_mean"])
        norm.running_var = torch.tensor(fields["bn_running_var"])
        module.bn = norm.eval()
    elif config.video:
        module.register_buffer("latents_mean", torch.tensor(mean), persistent=False)
        module.register_buffer("latents_std", torch.tensor(std), persistent=False)
