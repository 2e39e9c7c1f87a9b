"""The common parts of both trainings: initial weights, losses, the loop, and the average of the weights."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

EVERY = 500  # steps between reports


def initialise(model: nn.Module, latent_channels: int, seed: int, bias_spread: float = 0.0) -> None:
    """Draw seeded weights, in the order of the parameters' names.

    A convolution starts as an orthogonal map at the centre of its kernel (at the newest frame if it is causal), plus
    noise. Signals and gradients then pass the many layers without blur.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        with torch.no_grad():
            if parameter.ndim > 2:
                gain = 0.2 if "resnets" in name and "conv2" in name else 1.0
                noise = torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter[0].numel())
                square = torch.randn(parameter.shape[:2], generator=generator)
                left, _, right = torch.linalg.svd(square, full_matrices=False)
                middle = [size // 2 for size in parameter.shape[2:]]
                if parameter.ndim == 5 and name.startswith("encoder") and parameter.shape[2] == 3:
                    middle[0] = 2
                parameter.copy_(0.2 * noise)
                centre: tuple[Any, ...] = (slice(None), slice(None), *middle)
                parameter[centre] += left @ right
                parameter.mul_(gain)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
                if bias_spread and name.endswith("conv.bias") and "conv_out" not in name:
                    parameter.copy_(bias_spread * torch.randn(parameter.shape, generator=generator))
                if name.startswith("encoder.conv_out"):
                    parameter[latent_channels:] = -6.0  # log-variance: little noise from the first step on


def distance(output: Tensor, target: Tensor) -> Tensor:
    """L1, squared error and the L1 of horizontal and vertical differences; (N, 3, H, W) in -1..1 -> scalar."""
    error = output - target
    across = error[..., :, 1:] - error[..., :, :-1]
    down = error[..., 1:, :] - error[..., :-1, :]
    return error.abs().mean() + 2 * error.square().mean() + 0.25 * (across.abs().mean() + down.abs().mean())


def reconstruction_loss(output: Tensor, target: Tensor, halvings: int = 2) -> Tensor:
    """`distance` at full size, and half of it after each halving; (N, 3, H, W) in -1..1 -> scalar."""
    total = distance(output, target)
    for _ in range(halvings):
        output, target = functional.avg_pool2d(output, 2), functional.avg_pool2d(target, 2)
        total = total + 0.5 * distance(output, target)
    return total


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Kullback-Leibler divergence to the unit Gaussian, per latent value."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 200 steps, then half a cosine down to a hundredth of the peak."""
    if step < 200:
        return peak * (step + 1) / 200
    progress = (step - 200) / max(steps - 200, 1)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    model: nn.Module,
    batches: Iterator[Tensor],
    loss_of: Callable[[nn.Module, Tensor, torch.Generator], Tensor],
    evaluate: Callable[[nn.Module], str],
    *,
    optimiser: torch.optim.Optimizer,
    steps: int,
    peak: float,
    seed: int,
    checkpoint: Path,
) -> nn.Module:
    """Train for `steps` steps; returns the model with the running average of its weights."""
    noise = torch.Generator().manual_seed(seed)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    started, cpu, recent = time.monotonic(), time.process_time(), 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        loss = loss_of(model, next(batches), noise)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it without types
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        decay = min(0.999, (1 + step) / (20 + step))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        recent += (loss.item() - recent) * (0.02 if step > 50 else 1 / (step + 1))
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            own = {name: value.detach().clone() for name, value in model.state_dict().items()}
            model.load_state_dict(average)
            report = evaluate(model)
            torch.save(average, checkpoint)
            model.load_state_dict(own)
            wall, busy = time.monotonic() - started, time.process_time() - cpu
            print(
                f"step {step + 1}/{steps} loss {recent:.4f} {report} wall {wall:.0f} s cpu {busy:.0f} s",
                flush=True,
            )
    model.load_state_dict(average)
    return model


def psnr(output: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in -1..1, after clipping and rounding to 8 bits."""
    eight = ((output.clamp(-1, 1) + 1) * 127.5).round()
    return 10 * math.log10(255**2 / (eight - (target + 1) * 127.5).square().mean().item())
