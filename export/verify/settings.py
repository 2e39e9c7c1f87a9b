"""What to compare with the PyTorch reference, and how close the results must be."""

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
        samples: your own pictures or clips, or folders of them, in addition to random arrays.
        max_frames: the number of frames that clips among the samples are cut to.
        min_psnr_db: the least PSNR of every comparison, in dB; the reference's range (max - min) is the peak.
        backend: the backend to compare; "auto" compares every backend that can run on this machine.
        provider: the provider of ONNX Runtime to compare; None compares all.
        threads: CPU threads of one engine call; None takes all cores.
        dtype: the precision to compare; None compares every precision of the bundle.
        source: how to read the checkpoint.
    """

    samples: tuple[Path, ...] = ()
    max_frames: int = 17
    min_psnr_db: float = 45.0
    backend: BackendName = "auto"
    provider: ProviderName | None = None
    threads: int | None = None
    dtype: Dtype | None = None
    source: SourceOptions | None = None
