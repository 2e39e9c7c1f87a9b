"""One backend with one case: what the measurements of it have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Case, Contender
from .distance import psnr_to
from .processes import Unable

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """`contender` runs `component` of a bundle on the case's array; `wanted` is the reference's result (.npy), and
    `device` is "cuda" or, in a dry run, "cpu"."""

    case: Case
    contender: Contender
    bundle: Path
    wanted: Path
    device: str
    component: str = "decoder"

    @cached_property
    def vae(self) -> Any:
        """The bundle, opened once."""
        return self.opened()

    def opened(self, **options: Any) -> Any:
        """The bundle by this backend, opened anew."""
        from latentrt.runtime import open_bundle

        of = self.contender
        return open_bundle(self.bundle, backend=of.kind, provider=of.detail or None, dtype=of.dtype, **options)

    def backend(self) -> Any:
        """The backend as an object, for `opened_on`. It holds nothing yet."""
        from latentrt.runtime.backends.choose import choose_backend
        from latentrt.runtime.bundle.manifest import Manifest

        of = self.contender
        manifest = Manifest.open(self.bundle)
        return choose_backend(manifest, backend=of.kind, provider=of.detail or None, dtype=of.dtype)

    def opened_on(self, backend: Any) -> Any:
        """The bundle on a backend that `backend` gave, opened anew. The engines of `vae` are released first."""
        from latentrt.runtime import open_bundle

        self.vae.release()
        return open_bundle(self.bundle, backend=backend, dtype=self.contender.dtype)

    @cached_property
    def array(self) -> NDArray[np.float32]:
        """What the component takes, on the host."""
        return self.case.array(self.component)

    @cached_property
    def array_there(self) -> Any:
        """The same on the GPU; without one, on the host."""
        if self.device == "cpu":
            return self.array
        import torch

        return torch.from_numpy(self.array).to(self.device)

    def empty_bytes(self, size: int) -> Any:
        """Memory on the GPU; without one, on the host."""
        if self.device == "cpu":
            return np.empty(size, np.uint8)
        import torch

        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def run(self, vae: Any, array: Any, output: str = "float32", **options: Any) -> Any:
        """A call: the sample, or the moments, in the form `output`."""
        if self.component == "encoder":
            return vae.encode(array, output=output, **options).latent_dist.parameters
        return vae.decode(array, output=output, **options).sample

    def on_host(self) -> NDArray[np.float32]:
        """A call from host to host."""
        return self.run(self.vae, self.array)  # type: ignore[no-any-return]

    def call(self, output: str = "float32") -> Callable[[], Any]:
        """A call as it is timed: with "device" from the device to the device."""
        array = self.array_there if output == "device" else self.array
        return lambda: self.run(self.vae, array, output)

    def fetched(self, result: Any) -> Any:
        """A result as a tensor or array that can be compared; one on the device is not copied."""
        if isinstance(result, np.ndarray):
            return result
        from torch.utils.dlpack import from_dlpack

        return from_dlpack(result)

    def psnr_db(self, result: Any) -> float | None:
        """The distance to the reference in dB, None without one."""
        return psnr_to(self.wanted, self.fetched(result), self.device)

    def need_engines(self, what: str) -> None:
        """Raises Unable where ONNX Runtime runs: `what` is TensorRT's."""
        if not self.contender.kind.startswith("tensorrt"):
            raise Unable(f"{self.contender.kind} has no {what}")
