"""Devices of PyTorch, and what a computation on a device needs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ...runtime.errors import BackendUnavailable, InputError

__all__ = ["device_of", "free_cache", "on_stream"]

_DEFAULT_STREAMS = (0, 1)  # pointers of the default stream, as CUDA and DLPack define them


def device_of(name: "str | torch.device") -> torch.device:
    """A device that is there. "auto" is the accelerator of this machine, or the CPU.

    Raises:
        InputError: there is no such name. BackendUnavailable: PyTorch does not reach the device.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        name = "cpu" if found is None else found
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device must be a device of PyTorch such as 'cuda' or 'cpu', got {name!r}") from error
    if device.type == "meta":
        raise InputError("device must hold values, and PyTorch's device 'meta' holds none: take 'cpu'")
    try:
        return torch.empty(1, device=device).device  # with its number
    except Exception as error:  # AssertionError, RuntimeError and NotImplementedError, by the kind of device
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendUnavailable(f"PyTorch reaches no device {str(device)!r} here ({reason}): take 'cpu'") from error


@contextmanager
def on_stream(device: torch.device, pointer: int | None) -> Iterator[None]:
    """A context whose work goes to a CUDA stream, by its pointer. None: the thread's current stream."""
    with ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
            if pointer is not None:
                stack.enter_context(torch.cuda.stream(_stream_of(device, pointer)))
        yield


def free_cache(device: torch.device) -> None:
    """Give memory that PyTorch keeps for later tensors back to the device."""
    if device.type != "cpu":
        library: Any = getattr(torch, device.type)
        library.empty_cache()


def _stream_of(device: torch.device, pointer: int) -> Any:
    if pointer in _DEFAULT_STREAMS:
        return torch.cuda.default_stream(device)
    cuda: Any = torch.cuda  # the class has no types
    return cuda.ExternalStream(pointer, device=device)
