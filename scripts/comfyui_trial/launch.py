"""Runs ComfyUI's main.py: `python launch.py CHECKOUT ARGUMENTS`."""

import os
import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])

from comfyui_trial.stand_ins import stand_in  # noqa: E402

__all__: list[str] = []

stand_in()
checkout = sys.argv.pop(1)
os.chdir(checkout)
sys.path[0] = checkout
sys.argv[0] = str(Path(checkout) / "main.py")
runpy.run_path("main.py", run_name="__main__")
