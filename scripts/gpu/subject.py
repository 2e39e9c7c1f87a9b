"""One backend with one case: the common parts of its measurements."""

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
    """A backend that runs a component on the array of a case.

    Attributes:
        case: the case.
        contender: the backend.
        bundle: the bundle.
        wanted: file of the reference's result (.npy).
        device: "cuda", or "cpu" in a dry run.
        component: "encoder" or "decoder".
    """

    case: Case
    contender: Contender
    bundle: Path
    wanted: Path
    device: str
    component: str = "decoder"

    @cached_property
    def vae(self) -> Any:
        """The bundle, opened on first use."""
        return self.opened()

    def opened(self, **options: Any) -> Any:
        """Open the bundle with this backend."""
        from latentrt.runtime import open_bundle

        return open_bundle(self.bundle, **self.contender.options, **options)

    def backend(self) -> Any:
        """Return the backend as an object, for `opened_on`. No engine is open yet."""
        from latentrt.runtime.backends.choose import choose_backend
        from latentrt.runtime.bundle.manifest import Manifest

        return choose_backend(Manifest.open(self.bundle), **self.contender.options)

    def opened_on(self, backend: Any) -> Any:
        """Open the bundle with a backend that `backend` returned. The engines of `vae` are released first."""
        from latentrt.runtime import open_bundle

        self.vae.release()
        return open_bundle(self.bundle, **self.contender.options | {"backend": backend, "provider": None})

    @cached_property
    def array(self) -> NDArray[np.float32]:
        """The input of the component, on the host."""
        return self.case.array(self.component)

    @cached_property
    def array_there(self) -> Any:
        """The input of the component on the GPU, or on the host without a GPU."""
        if self.device == "cpu":
            return self.array
        import torch

        return torch.from_numpy(self.array).to(self.device)

    def empty_bytes(self, size: int) -> Any:
        """Allocate memory on the GPU, or on the host without a GPU."""
        if self.device == "cpu":
            return np.empty(size, np.uint8)
        import torch

        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def run(self, vae: Any, array: Any, output: str = "float32", **options: Any) -> Any:
        """Run a call, and return the sample or the moments in the form `output`."""
        if self.component == "encoder":
            return vae.encode(array, output=output, **options).latent_dist.parameters
        return vae.decode(array, output=output, **options).sample

    def on_host(self) -> NDArray[np.float32]:
        """Run a call from host to host."""
        return self.run(self.vae, self.array)  # type: ignore[no-any-return]

    def call(self, output: str = "float32") -> Callable[[], Any]:
        """Return a call to time; with "device" it runs from device to device."""
        array = self.array_there if output == "device" else self.array
        return lambda: self.run(self.vae, array, output)

    def fetched(self, result: Any) -> Any:
        """Return a result as a tensor or array for comparison. A result on the device is not copied."""
        if isinstance(result, np.ndarray):
            return result
        from torch.utils.dlpack import from_dlpack

        return from_dlpack(result)

    def psnr_db(self, result: Any) -> float | None:
        """Return the PSNR to the reference in dB, or None without a reference."""
        return psnr_to(self.wanted, self.fetched(result), self.device)

    def need_engines(self, what: str) -> None:
        """Raise Unable unless TensorRT runs: ONNX Runtime has no `what`."""
        if not self.contender.kind.startswith("tensorrt"):
            raise Unable(f"{self.contender.kind} has no {what}")
