"""A stand-in for ComfyUI's package `comfy_api`."""

__all__: list[str] = []
