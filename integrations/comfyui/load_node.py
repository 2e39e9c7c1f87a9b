"""The node *Load LatentRT VAE*."""

from typing import Any

from comfy_api.latest import io

from ...runtime.arrays.kinds import DTYPES, Dtype
from ...runtime.errors import InputError
from ...runtime.system.budget import parse_memory
from ..torch_backend.opening import TORCH, open_with_torch
from .bundle_folder import bundle_names, bundle_path
from .vae import LatentRTVAE

__all__ = ["BACKENDS", "LoadLatentRTVAE", "opened_vae"]

BACKENDS = ["auto", "onnxruntime", "openvino", "tensorrt-rtx", "tensorrt", TORCH]
_NO_BUNDLE = "no bundle in models/latentrt"
_TILES, _EXACT = "tiles", "exact"


def opened_vae(bundle: str, backend: str, dtype: Dtype, memory: str, tiled_nodes: str = _TILES) -> LatentRTVAE:
    """Open a bundle of `models/latentrt`.

    Args:
        bundle: its name.
        backend, dtype: as in `open_with_torch`.
        memory: the budget of a call that is not tiled, such as "8GiB", or "".
        tiled_nodes: what tiled nodes do: "tiles", or "exact" for strips and streams with the numbers of a single pass.

    Raises:
        InputError: no such bundle, or a wrong budget. LatentRTError: see `open_bundle`.
    """
    if bundle == _NO_BUNDLE:
        raise InputError(
            "models/latentrt holds no bundle: make one with the node Make LatentRT bundle, or copy one there"
        )
    if memory.strip():
        parse_memory(memory)
    planned = bool(memory.strip())
    autoencoder = open_with_torch(bundle_path(bundle), backend=backend, dtype=dtype, planned=planned)
    return LatentRTVAE(autoencoder, memory=memory.strip() or None, exact_tiles=tiled_nodes == _EXACT)


class LoadLatentRTVAE(io.ComfyNode):
    """Opens a bundle as a VAE that any node takes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return io.Schema(
            node_id="LatentRTLoadVAE",
            display_name="Load LatentRT VAE",
            category="latentrt",
            description="Opens a bundle in models/latentrt as a VAE for any node that encodes or decodes.",
            inputs=[
                io.Combo.Input(
                    "bundle", options=bundle_names() or [_NO_BUNDLE], tooltip="A bundle in models/latentrt."
                ),
                io.Combo.Input(
                    "backend", options=BACKENDS, default="auto", tooltip="auto: the fastest that runs on this machine."
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    default="float32",
                    tooltip="The precision of the computation. The bundle or the backend must have it.",
                ),
                io.String.Input(
                    "memory",
                    default="",
                    tooltip="What a call may take in all, such as 8GiB. The fastest way that fits is found by "
                    "measuring small calls the first time. Empty: a plan is made only if a call might not fit into "
                    "the free memory.",
                ),
                io.Combo.Input(
                    "tiled_nodes",
                    options=[_TILES, _EXACT],
                    default=_TILES,
                    tooltip="What VAE Decode (Tiled) and VAE Encode (Tiled) do. tiles: overlapping tiles of their "
                    "size, blended. exact: pictures in strips, and clips decoded as a stream, with the numbers of a "
                    "single pass and no seams; the tile sizes are then not used.",
                ),
            ],
            outputs=[io.Vae.Output()],
        )

    @classmethod
    def execute(cls, bundle: str, backend: str, dtype: Dtype, memory: str, tiled_nodes: str) -> io.NodeOutput:
        """Open the bundle."""
        return io.NodeOutput(opened_vae(bundle, backend, dtype, memory, tiled_nodes))

    @classmethod
    def fingerprint_inputs(cls, bundle: str, **others: Any) -> Any:
        """A value that changes when another bundle is put under the same name, so that ComfyUI opens it again."""
        if bundle not in bundle_names():
            return bundle
        state = (bundle_path(bundle) / "manifest.json").stat()
        return f"{bundle}:{state.st_mtime_ns}:{state.st_ino}"
