"""The numbers that the planner was tuned with: what each one corrects, its unit, and where it was measured.

`benchmarks/planner.md` has predictions and budgets next to measured peaks; docs/planner.md explains the reasons.
"""

__all__ = [
    "ALWAYS_FITS_BYTES",
    "ATTENTION_INPUT_COPIES",
    "DEVICE_FACTOR",
    "DISK_BYTES_PER_SECOND",
    "ENGINES_OPEN_AT_ONCE",
    "FEWEST_CELLS",
    "FEWEST_OVERLAP_CELLS",
    "FEWEST_TILE_FRAMES",
    "LARGEST_SIZE_STEP",
    "LEAST_SLOPE_SHARE",
    "LEAST_STRIP_BYTES",
    "LONGEST_SECONDS",
    "LONG_CALL_SHARE",
    "MOST_ATTENTION_SHARE",
    "MOST_CALIBRATION_FRAMES",
    "MULTIPLICATIONS_PER_SECOND",
    "PEAK_MARGIN",
    "PIXELS_SHARE",
    "PREDICTION_FACTOR",
    "SECOND_POINT_RATIOS",
    "SHORTER_CHUNKS",
    "SHORT_SECONDS",
    "SIZE_TOLERANCE",
    "SKIP_MEASURING_SHARE",
    "STREAM_FACTOR",
    "STRIP_BUDGET_SHARES",
    "STRIP_FACTOR",
    "STRIP_PROBE_SIDES",
    "STRIP_STEP_FACTOR",
    "TILE_FRAMES",
    "TILE_PIXELS",
    "WHOLE_OVER_TILE",
    "WRITTEN_PER_SECOND",
]

# Which calls are planned.

ALWAYS_FITS_BYTES = 1 << 28
"""A call that takes no more bytes than this runs without a look at the free memory. An assumption: reading the free
memory takes a fraction of a millisecond, which small calls would notice."""

# Predictions: wanted between 5 % below and 15 % above the measured peak. 20 of 20 were (benchmarks/planner.md).

PREDICTION_FACTOR = 1.06
"""Multiplies every prediction of host memory, because a prediction should rather be a little high than low."""
STREAM_FACTOR = 1.03
"""Multiplies the prediction of a stream again, because each stage has its own largest step."""
STRIP_FACTOR = 0.97
"""Multiplies the prediction of strips again. It is below 1 because their tiles are counted one by one."""
STRIP_STEP_FACTOR = 1.06
"""Multiplies the bytes that the steps of strips hold, because engine calls of different steps differ."""
DEVICE_FACTOR = 1.06
"""Multiplies every prediction of GPU memory, because allocations are rounded up. Not measured on a GPU."""
PEAK_MARGIN = 0.05
"""The share of a prediction by which measured peaks exceeded it. A budget has to allow this in addition."""
DISK_BYTES_PER_SECOND = 5e8
"""Bytes per second at which strips write activations to files: that of a common solid-state disk. An assumption."""

# Calibration: at which sizes small calls are measured (docs/planner.md, "measured, not assumed").

SIZE_TOLERANCE = 0.04
"""By how much, in powers of two, a calibration size may miss a power of two below the wanted size. An engine's own
allocator may round to powers of two, so only such sizes lie on one line."""
MOST_CALIBRATION_FRAMES = 9
"""The most latent frames of a clip that stands for a longer one in a whole pass."""
FEWEST_CELLS = {False: 64, True: 4}
"""The fewest latent cells of height times width that are measured, of image models and of video models (True). Calls on
fewer cells are ruled by costs that do not grow with the size."""
SHORT_SECONDS = {False: 4.0, True: 8.0}
"""A calibrating call, or stream (True), is tried if it takes no more seconds than this, also for a short wanted call.
`MeasuredMemory.calibration_share` lowers it for a backend."""
LONG_CALL_SHARE = {False: 0.04, True: 0.08}
"""The share of a long call's own time, or of a long stream's (True), that one calibrating call may take. Streams get
more because their memory bends: each stage has a largest step of its own."""
LONGEST_SECONDS = {False: 30.0, True: 60.0}
"""The most seconds of a calibrating call, or stream (True), however long the wanted call is."""
LARGEST_SIZE_STEP = 16
"""How many times as large as the size before it a calibrating call may be."""
SECOND_POINT_RATIOS = (2.5, 6.0)
"""The least and the greatest ratio of the two sizes through which a line goes. Memory is not linear at small sizes, so
the smaller size must not be too small."""
LEAST_SLOPE_SHARE = 0.05
"""The least share of a call's memory that is assumed to grow with the size, because small calls differ by chance."""
ATTENTION_INPUT_COPIES = 9
"""Arrays of the size of attention's input that a pass holds next to the scores."""
MOST_ATTENTION_SHARE = 0.75
"""If attention takes more than this share of a measured call, the call is no measurement of the other layers."""
STRIP_PROBE_SIDES = (12, 24)
"""The sides, in latent cells, of the two square pictures on which strips are measured."""

# Bounds from the formulas of the graphs (`backends.memory_model.LivenessBounds` has those of memory).

MULTIPLICATIONS_PER_SECOND = 7e10
"""The multiplications of a call per second, to compare strategies that were not measured. From the whole passes in
benchmarks/planner.md, on two cores of a Xeon: 4e10 to 7e10, and less where values are written most of the time."""
WRITTEN_PER_SECOND = 2e9
"""The values that the steps of a graph write per second, in addition to the multiplications. From the same passes."""

# The search: which strategies are looked at.

TILE_PIXELS = (1024, 768, 512, 384, 256, 192, 128)
"""The sides of tiles, in pixels, the largest first."""
TILE_FRAMES = (10, 7, 5, 4)
"""The lengths of tiles in time, in latent frames, the longest first."""
FEWEST_TILE_FRAMES = 3
"""The fewest latent frames of a tile in time: two that overlap with the next tile, and one more."""
FEWEST_OVERLAP_CELLS = 2
"""The fewest latent cells, of 32 pixels each, by which the tiles of a clip overlap."""
SHORTER_CHUNKS = (8, 4)
"""The lengths of a stream's chunks, in frames, that are looked at below the usual one."""
STRIP_BUDGET_SHARES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1)
"""The shares of what the budget leaves that strips are given, until their prediction fits."""
LEAST_STRIP_BYTES = 1 << 26
"""The least bytes that strips are given: 64 MiB."""
WHOLE_OVER_TILE = 2
"""The pass is not measured to find the least memory if its bound exceeds the bound of the smallest tile this many
times: then the tile certainly holds less."""
SKIP_MEASURING_SHARE = 0.7
"""Tiles are not measured if their estimate, times this, exceeds the budget."""

# GPU memory, computed from the records of engines. Not measured on a GPU.

ENGINES_OPEN_AT_ONCE = 2
"""The engines of strips that are on the GPU at once: the next step's opens while one computes."""
PIXELS_SHARE = 0.25
"""The size of uint8 pixels as a share of a decoder's float32 result. Engines write both."""
