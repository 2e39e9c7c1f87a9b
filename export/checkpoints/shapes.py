"""Names and shapes of a model's parameters, put together layer by layer."""

__all__ = ["Shapes", "affine", "convolution"]

Shapes = dict[str, tuple[int, ...]]


def convolution(name: str, inputs: int, outputs: int, *kernel: int) -> Shapes:
    """A convolution with its bias; without a kernel, a linear layer."""
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def affine(name: str, channels: int) -> Shapes:
    """A norm's weight and bias."""
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}
