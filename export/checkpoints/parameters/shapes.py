"""Names and shapes of parameters, layer by layer."""

__all__ = ["Shapes", "affine", "convolution"]

Shapes = dict[str, tuple[int, ...]]
"""Shape of each parameter, by its name."""


def convolution(name: str, inputs: int, outputs: int, *kernel: int) -> Shapes:
    """Return the weight and the bias of a convolution, or of a linear layer if `kernel` is empty."""
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def affine(name: str, channels: int) -> Shapes:
    """Return the weight and the bias of a norm."""
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}
