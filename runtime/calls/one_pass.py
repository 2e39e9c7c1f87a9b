"""Calls whose result has to be made by one engine call: it stays on the device, or is made in a CUDA stream."""

from typing import TYPE_CHECKING

from ...tiling.argument_names import argument
from ..errors import InputError

if TYPE_CHECKING:
    from .jobs import Job

__all__ = ["require_one_pass"]


def require_one_pass(job: "Job", *, planned: bool, backend: str, takes_stream: bool) -> None:
    """Refuse tiles, strips and streams if the result stays on the device or is made in the caller's CUDA stream.

    Args:
        job: the call.
        planned: whether the call has a memory budget.
        backend: the backend's label, for the message.
        takes_stream: whether the backend takes a CUDA stream of the caller's.

    Raises:
        InputError: the call cannot be one engine call.
    """
    on_device, kind = job.result.output == "device", job.kind
    if planned and job.strategy.streaming:
        raise InputError(
            f"{argument('memory')}: a result that stays on the device, or is made in the caller's stream, needs a "
            "single pass, but streaming is enabled; disable_streaming() first"
        )
    if kind == "stream":
        raise InputError("output='device' gives the engine's own result: not with streaming")
    if job.stream is not None and not takes_stream:
        raise InputError(f"stream: the backend {backend} takes no stream of the caller's")
    if job.stream is not None and kind in ("tiles", "strips"):
        raise InputError(
            "stream: tiles are joined on the host and not in a CUDA stream: disable_tiling(), or leave stream out"
        )
    if on_device and kind == "strips":
        raise InputError("output='device' gives the engine's own result: not with strips")
    if on_device and (kind != "whole" or job.result.size != job.result.shape[2:]):
        raise InputError("output='device' gives the engine's own result: not with tiling, slicing or crop")
