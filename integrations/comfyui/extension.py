"""The nodes, as ComfyUI takes them."""

from comfy_api.latest import ComfyExtension, io

from .bundle_folder import register_folder
from .load_node import LoadLatentRTVAE
from .make_node import MakeLatentRTBundle
from .video_node import DecodeToVideoFile

__all__ = ["LatentRTExtension"]


class LatentRTExtension(ComfyExtension):
    """LatentRT's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes of this pack. The folder of bundles is known to ComfyUI from now on."""
        register_folder()
        return [LoadLatentRTVAE, MakeLatentRTBundle, DecodeToVideoFile]
