"""The memory of *Decode to video file*, which a clip's length does not change."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from places import TESTS

pytestmark = pytest.mark.slow

PEAK = """
import sys
from fractions import Fraction
from pathlib import Path
import torch
from latentrt.integrations.comfyui.vae import LatentRTVAE
from latentrt.integrations.comfyui.video_node import decode_to_file
from latentrt.runtime import open_bundle
from peak_memory import peak_bytes

vae = LatentRTVAE(open_bundle(sys.argv[1], backend="onnxruntime", threads=1))
latents = torch.randn(1, 16, int(sys.argv[2]), 4, 4)
if sys.argv[3] == "file":
    decode_to_file(vae, latents, Path(sys.argv[4]), Fraction(24), preview=False)
else:
    vae.decode(latents)
print(peak_bytes())
"""


def peak(bundle: Path, latent_frames: int, way: str, file: Path) -> int:
    paths = f"import sys; sys.path[:0] = {[str(TESTS / 'support'), str(TESTS / 'support' / 'fake_comfy')]}\n"
    command = [sys.executable, "-c", paths + PEAK, str(bundle), str(latent_frames), way, str(file)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_twice_the_frames_take_no_more_memory(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle, frames = bundle_of("ltx20"), 8 * 32 * 128 * 128 * 3 * 4  # bytes of the frames that the longer clip adds
    short, long = (peak(bundle, count, "file", tmp_path / f"{count}.mp4") for count in (33, 65))
    assert long - short < 0.2 * frames
    whole = peak(bundle, 65, "whole", tmp_path)
    assert whole - long > 0.8 * frames, "the check cannot fail"
