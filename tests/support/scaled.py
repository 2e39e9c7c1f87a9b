"""Checkpoints with layers scaled up or down, to make activations large where a test wants them."""

from pathlib import Path

from latentrt.export.weights.safetensors_file import SafetensorsFile, write_safetensors

__all__ = ["scale_weights"]


def scale_weights(source: Path, prefix: str, factor: float) -> None:
    """Multiply the weights of one layer of a checkpoint."""
    path = source / "diffusion_pytorch_model.safetensors"
    file = SafetensorsFile(path)
    tensors = {name: file.read(name) * (factor if name.startswith(prefix) else 1) for name in file}
    path.unlink()
    write_safetensors(path, {name: tensor.shape for name, tensor in tensors.items()}, tensors.__getitem__)
