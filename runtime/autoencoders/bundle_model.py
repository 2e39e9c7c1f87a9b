"""What every model of a bundle has: its bundle's properties, and the life of its engines."""

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from ..arrays.grid import Grid
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..config.model_config import ModelConfig
from ..errors import BundleError

if TYPE_CHECKING:
    from ..selftest.report import SelftestReport

__all__ = ["BundleModel"]


class BundleModel(ABC):
    """A model that a bundle holds. It holds memory: use it as a context manager, or call `close`. It is thread-safe.

    Attributes:
        opened: the parts that it is made of, for tools. Their names may change.
    """

    family: ClassVar[str]

    def __init__(self, manifest: Manifest, **options: Any) -> None:
        """`options` as in `open_bundle`."""
        from .opened_bundle import OpenedBundle  # here: a program that opens no bundle imports no backend

        self.opened: OpenedBundle = OpenedBundle(manifest, **options)

    @classmethod
    def from_pretrained(cls, bundle: str | Path, **options: Any) -> Self:
        """Open a bundle of this family; `options` as in `open_bundle`.

        Raises:
            BundleError: the bundle is damaged, or of another family.
        """
        manifest = Manifest.open(Path(bundle))
        if manifest.family != cls.family:
            raise BundleError(f"{bundle} holds an {manifest.family}, not an {cls.family}: open it with open_bundle")
        return cls(manifest, **options)

    @property
    def config(self) -> ModelConfig:
        """The model's config, frozen, with the field names of diffusers."""
        return self.opened.manifest.config

    @property
    def video(self) -> bool:
        """Whether samples are clips instead of pictures."""
        return self.config.video

    @property
    def manifest(self) -> Manifest:
        """What the bundle holds, as it was when it was opened."""
        return self.opened.manifest

    @property
    def grid(self) -> Grid:
        """The legal sizes of samples and latents."""
        return self.opened.grid

    @property
    def dtype(self) -> str:
        """The precision of the computation, as it was asked for."""
        return self.opened.dtype

    @property
    def backend(self) -> str:
        """The backend and provider that run the engines, such as "onnxruntime:cpu"."""
        return self.opened.label

    @property
    def device(self) -> str:
        """Where the engines run, and whose memory a budget is for: "cpu" or "cuda"."""
        return self.opened.backend.device

    @property
    def graphs(self) -> Sequence[Graph]:
        """The graphs of whole passes that run here: of the precision that was asked for, or of float32 if the backend
        lowers them itself."""
        return self.opened.graphs

    def __repr__(self) -> str:
        closed = ", closed" if self.opened.engines.closed else ""
        return (
            f"<{type(self).__name__} {str(self.manifest.folder)!r}: {self.backend}, {self.dtype}, on "
            f"{self.device}{closed}>"
        )

    def load(self, component: str, *, streaming: bool = False) -> None:
        """Load the engines of a whole pass, or of a stream, of the "encoder" or the "decoder".

        Raises:
            BundleError: the bundle lacks the component. EngineError: an engine does not load.
        """
        self.opened.load(component, streaming=streaming)

    def selftest(self) -> "SelftestReport":
        """Run the golden samples of the bundle, with the results of the PyTorch reference: every graph of a whole pass,
        and streams and strips if the bundle has their graphs. Needs neither torch nor the checkpoint.

        Returns:
            The PSNR of each sample, and whether it is enough for the precision. Nothing is raised for a wrong result.

        Raises:
            BundleError: the bundle holds no golden samples. EngineError, Cancelled: see there.
        """
        return self.opened.selftest()

    def cancel(self) -> None:
        """Stop every call that runs or waits now, from another thread. Each raises `Cancelled`. A call runs from the
        end of its checks to its result, its planning included. To stop one call, give it a `CancelToken`."""
        self.opened.engines.cancel()

    def release(self) -> None:
        """Free the engines' memory as soon as the GPU has finished their work. The next call loads them again."""
        self.opened.engines.release()

    def close(self) -> None:
        """Release everything. Further calls raise."""
        self.opened.engines.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse pickling and copying: engines are memory and threads of one process.

        Raises:
            TypeError: always. The message says what to send instead.
        """
        raise TypeError(
            f"an open bundle cannot be pickled or copied: send the path to the other process and open it there, with "
            f"open_bundle({str(self.manifest.folder)!r})"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
