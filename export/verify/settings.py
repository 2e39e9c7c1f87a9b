"""The settings of a comparison with the PyTorch reference."""

from dataclasses import dataclass
from pathlib import Path

from ...runtime.arrays.kinds import Dtype
from ...runtime.backends.names import BackendName, ProviderName
from ..checkpoints import SourceOptions

__all__ = ["VerifySettings"]


@dataclass(frozen=True)
class VerifySettings:
    """How `verify_bundle` compares a bundle.

    Attributes:
        samples: picture files, clip files, or folders of them, in addition to random arrays.
        max_frames: number of frames to which clips are cut.
        min_psnr_db: PSNR in dB that each comparison must reach; the range (max - min) of the reference's output is the
            peak. None is 100 in float32, 60 in float16 and 45 in bfloat16.
        backend: the backend to compare; "auto" compares all that can run here.
        provider: the ONNX Runtime provider to compare; None compares all that can run here.
        threads: number of threads of an engine; None is the engine's default.
        dtype: the precision to compare; None compares all precisions of the bundle.
        source: how to read the source.
    """

    samples: tuple[Path, ...] = ()
    max_frames: int = 17
    min_psnr_db: float | None = None
    backend: BackendName = "auto"
    provider: ProviderName | None = None
    threads: int | None = None
    dtype: Dtype | None = None
    source: SourceOptions | None = None
