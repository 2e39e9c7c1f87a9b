"""The parts of scripts/try_comfyui: our nodes in a real ComfyUI."""

__all__: list[str] = []
