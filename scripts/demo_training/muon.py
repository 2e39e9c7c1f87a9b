"""The optimiser of the video training. It needs far fewer steps than AdamW for this deep, narrow model."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Adam, except that the step of a convolution is its orthogonalised momentum (K. Jordan's Muon).

    A convolution is a matrix (outputs, inputs * kernel). Its step is scaled to the size of Adam's step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # no closure is ever passed
        """Update all parameters; each of them must have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(count=0, momentum=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
                state["count"] += 1
                update = matrix_step(parameter.grad, state) if parameter.ndim > 2 else adam(parameter.grad, state)
                parameter.sub_(update, alpha=group["lr"])


def adam(gradient: Tensor, state: dict[str, Any]) -> Tensor:
    """Return Adam's step, without the learning rate."""
    state["momentum"].lerp_(gradient, 0.1)
    state["square"].lerp_(gradient.square(), 0.01)
    mean = state["momentum"] / (1 - 0.9 ** state["count"])
    return mean / ((state["square"] / (1 - 0.99 ** state["count"])).sqrt() + 1e-8)


def matrix_step(gradient: Tensor, state: dict[str, Any]) -> Tensor:
    """Return Muon's step, without the learning rate, at the average size of Adam's step."""
    state["momentum"].lerp_(gradient, 0.05)
    ahead = gradient.lerp(state["momentum"], 0.95).flatten(1)
    return (orthogonal(ahead) * (0.2 * math.sqrt(max(ahead.shape)))).view_as(gradient)


def orthogonal(matrix: Tensor) -> Tensor:
    """Approximate the closest matrix with orthonormal rows or columns, by the Newton-Schulz iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    work = matrix.T if tall else matrix
    work = (work / (work.norm() + 1e-7)).bfloat16()
    for _ in range(5):
        gram = work @ work.T
        work = 3.4445 * work + (-4.775 * gram + 2.0315 * gram @ gram) @ work
    return (work.T if tall else work).to(matrix.dtype)
