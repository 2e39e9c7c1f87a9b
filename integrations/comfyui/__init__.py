"""A node pack for ComfyUI. Put or link this folder into `ComfyUI/custom_nodes`, with latentrt in its Python.

ComfyUI imports the linked folder under a name of its own and calls `comfy_entrypoint`. The nodes themselves come from
the installed package. What belongs here turns ComfyUI's calls and layouts into those of `runtime` and `export`.
"""

from typing import Any

__all__ = ["comfy_entrypoint"]


async def comfy_entrypoint() -> Any:
    """The extension, for ComfyUI."""
    try:
        from latentrt.integrations.comfyui.extension import LatentRTExtension
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "latentrt":
            raise
        message = 'LatentRT is not installed in the Python of ComfyUI: run `python -m pip install "latentrt[comfyui]"`'
        raise ImportError(message) from error
    return LatentRTExtension()
