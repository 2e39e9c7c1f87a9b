"""The names of a graph's inputs, outputs and dynamic axes: the contract between the exporter and the runtime.

The exporter writes these names into ONNX files and manifests, and the runtime finds arrays by them. Changing a name
breaks every bundle that was made before.

Graphs that run a whole sample:

    encoder   sample (B, C, [T,] H, W) -> moments (B, 2C, [t,] h, w)
    decoder   latents (B, C, [t,] h, w) [, temb (B,)] [, noise per block] -> sample

Graphs of a stream, one per stage:

    chunk (B, C, T, h, w), first (1,) [, last (1,)] [, temb] [, noise], state_00 ... -> result, next_state_00 ...

Graphs of a pass in strips, one per stage:

    convolution   tile, top, left, bottom, right [, mean, variance] [, skip] -> result [, row_mean, row_variance]
    keys          tile, mean, variance -> keys, values
    attention     tile, mean, variance, keys, values -> result, row_mean, row_variance

Engines may have further outputs (`added_outputs`): `pixels` and `not_finite`.
"""

from collections.abc import Sequence

from ..config.model_config import NoiseStack

__all__ = [
    "BATCH",
    "CHUNK",
    "FIRST",
    "FRAMES",
    "HEIGHT",
    "KEYS",
    "LAST",
    "LATENTS",
    "MAIN_INPUT",
    "MEAN",
    "MOMENTS",
    "NOT_FINITE",
    "PIXELS",
    "POSITIONS",
    "RESULT",
    "RESULT_COLUMNS",
    "RESULT_FRAMES",
    "RESULT_ROWS",
    "ROW_MEAN",
    "ROW_VARIANCE",
    "SAMPLE",
    "SIDES",
    "SKIP",
    "TEMB",
    "TILE",
    "TILE_COLUMNS",
    "TILE_ROWS",
    "VALUES",
    "VARIANCE",
    "WIDTH",
    "is_next_state",
    "is_state",
    "latent_axis",
    "next_state",
    "noise_axes",
    "noise_input",
    "sample_axes",
    "state",
    "state_of_next",
    "stream_axes",
    "whole_axes",
]

# Graphs that run a whole sample.
SAMPLE = "sample"
"""A picture or a clip, float32 in [-1, 1]."""
MOMENTS = "moments"
"""Mean and log-variance of the latents, side by side along the channels."""
LATENTS = "latents"
"""Model latents, as diffusers' decode takes them."""
TEMB = "temb"
"""Timesteps (B,) of a timestep-conditioned decoder."""
MAIN_INPUT = {"encoder": SAMPLE, "decoder": LATENTS}
"""The first input of a component's whole graph."""

# Graphs of a stream.
CHUNK = "chunk"
"""Frames (B, C, T, h, w) that a stage takes in one step."""
FIRST = "first"
"""int64 (1,): 1 in the first step of a clip, else 0."""
LAST = "last"
"""int64 (1,): 1 in the last step of a clip, else 0. Only stages that look ahead take it."""
RESULT = "result"
"""The frames of a step, or the tile of a stage in strips."""
_STATE, _NEXT = "state_", "next_"

# Graphs of a pass in strips.
TILE = "tile"
"""The source's rows and columns that a tile of the result needs."""
SIDES = ("top", "left", "bottom", "right")
"""int64 (1,) each: rows or columns of zeros that stand outside the picture at each side of a tile."""
SKIP = "skip"
"""A tile of the earlier result that a stage adds."""
MEAN, VARIANCE = "mean", "variance"
"""Of the whole picture, (B, groups) each: what a group norm needs."""
KEYS, VALUES = "keys", "values"
"""Of all positions, (B, N, C) each: what attention needs."""
ROW_MEAN, ROW_VARIANCE = "row_mean", "row_variance"
"""Of each row of the result, (B, C, rows) each."""

# What `latentrt build` adds to an engine.
PIXELS = "pixels"
"""The result as uint8 in [0, 255], channels last. The device converts it, and a quarter of the bytes is copied."""
NOT_FINITE = "not_finite"
"""One number: how many values of the result are NaN or infinite."""

# Dynamic axes.
BATCH = "batch"
FRAMES, HEIGHT, WIDTH = "frames", "height", "width"
"""Of a sample, in frames and pixels; in a stream, frames of a chunk and latent cells."""
RESULT_FRAMES = "result_frames"
TILE_ROWS, TILE_COLUMNS = "rows", "columns"
RESULT_ROWS, RESULT_COLUMNS = "result_rows", "result_columns"
POSITIONS = "positions"
"""Latent cells of a tile, or of the whole picture, side by side."""


def state(number: int) -> str:
    """The input that holds the state of a stream's `number`-th layer with memory, from 0."""
    return f"{_STATE}{number:02d}"


def is_state(name: str) -> bool:
    """Whether an input is a state."""
    return name.startswith(_STATE)


def next_state(name: str) -> str:
    """The output that replaces the state `name` in the next step."""
    return f"{_NEXT}{name}"


def is_next_state(name: str) -> bool:
    """Whether an output is the next state."""
    return name.startswith(_NEXT)


def state_of_next(name: str) -> str:
    """The input that takes the next state `name`; another output's name stays as it is."""
    return name.removeprefix(_NEXT)


def noise_input(block: int) -> str:
    """The input for the noise of one block of a decoder: 0 is the mid block, and 1 the first up block."""
    return "noise_mid_block" if block == 0 else f"noise_up_block_{block - 1}"


def noise_axes(block: int) -> tuple[str, str]:
    """Height and width of a block's noise, in graphs that run a whole sample."""
    name = noise_input(block)
    return f"{name}_{HEIGHT}", f"{name}_{WIDTH}"


def sample_axes(*, video: bool) -> tuple[str, ...]:
    """The dynamic axes of a sample behind its channels."""
    return (FRAMES, HEIGHT, WIDTH) if video else (HEIGHT, WIDTH)


def latent_axis(axis: str) -> str:
    """The axis of latents along the axis of a sample."""
    return f"latent_{axis}"


def whole_axes(
    batch: int, sample_size: Sequence[int], cells: Sequence[int], noise: Sequence[NoiseStack] = ()
) -> dict[str, int]:
    """The lengths of the named axes of graphs that run a whole sample.

    Args:
        batch: pictures or clips.
        sample_size: (T,) H, W in frames and pixels.
        cells: (T,) H, W of the latents.
        noise: the noise that the decoder injects.
    """
    names = sample_axes(video=len(sample_size) == 3)
    sizes = {BATCH: batch, **dict(zip(names, sample_size, strict=True))}
    sizes |= {latent_axis(name): size for name, size in zip(names, cells, strict=True)}
    for stack in noise:
        lengths = (stack.scale * size for size in cells[-2:])
        sizes |= dict(zip(noise_axes(stack.block), lengths, strict=True))
    return sizes


def stream_axes(batch: int, cells: Sequence[int], frames: int | None = None) -> dict[str, int]:
    """The lengths of the named axes of a stream's graphs: `cells` are the latents' height and width. Without `frames`
    the length of a chunk is left out."""
    sizes = {BATCH: batch, HEIGHT: cells[0], WIDTH: cells[1]}
    return sizes if frames is None else sizes | {FRAMES: frames}
