"""A stand-in for ComfyUI's package `comfy`: what our nodes use of it, written for these tests."""

__all__: list[str] = []
