"""Commands that a signal ends at a random moment leave a whole output or none, and nothing after the next run."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import LATENTRT
from safetensors.numpy import load_file

from latentrt.runtime import open_bundle

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")

KILLS = 12  # of each command
Command = Callable[[Path], list[str]]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8))
    return path


@pytest.fixture(scope="module")
def clip_latents(bundle_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "latents.npy"
    with open_bundle(bundle_of("ltx20"), threads=1) as vae:
        shape = (1, vae.config.latent_channels, 7, 8, 8)
    np.save(path, np.random.default_rng(0).standard_normal(shape, np.float32))
    return path


def test_a_killed_export_leaves_a_whole_bundle_or_none(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    def is_whole(bundle: Path) -> None:
        with open_bundle(bundle, threads=1) as vae:
            vae.manifest.verify_hashes()

    campaign(lambda output: ["export", str(checkpoint_of("sd")), str(output)], tmp_path, "bundle", is_whole)


def test_a_killed_encode_leaves_whole_latents_or_none(
    bundle_of: Callable[[str], Path], picture: Path, tmp_path: Path
) -> None:
    def command(output: Path) -> list[str]:
        return ["encode", str(bundle_of("sd")), str(picture), "-o", str(output), "--backend", "onnxruntime"]

    def is_whole(output: Path) -> None:
        assert load_file(output)["latents"].shape == (1, 4, 64, 64)

    campaign(command, tmp_path, "latents.safetensors", is_whole)


@pytest.mark.parametrize(("name", "streams"), [("clip.npy", False), ("clip.mp4", True)])
def test_a_killed_decode_leaves_a_whole_clip_or_none(
    name: str, streams: bool, bundle_of: Callable[[str], Path], clip_latents: Path, tmp_path: Path
) -> None:
    def command(output: Path) -> list[str]:
        options = ["--backend", "onnxruntime", *(["--stream"] if streams else [])]
        return ["decode", str(bundle_of("ltx20")), str(clip_latents), "-o", str(output), *options]

    def is_whole(output: Path) -> None:
        if name.endswith("npy"):
            frames = np.load(output, mmap_mode="r").shape[2]
        else:
            import av

            with av.open(str(output)) as container:
                frames = sum(1 for _ in container.decode(video=0))
        assert frames == 49

    campaign(command, tmp_path, name, is_whole)


def campaign(command: Command, folder: Path, name: str, is_whole: Callable[[Path], None]) -> None:
    """Run a command once, then end it at random moments by each of the signals, and run it once more after each."""
    seconds = math.inf
    for warm in ("first", "second"):  # the first run also fills caches
        started = time.monotonic()
        run(command(folder / warm / name))
        seconds = min(seconds, time.monotonic() - started)
    is_whole(folder / "first" / name)
    killed = 0
    for seed in range(KILLS):
        number = getattr(signal, SIGNALS[seed % len(SIGNALS)])
        output = folder / str(seed) / name
        output.parent.mkdir()
        process = subprocess.Popen(
            [*LATENTRT, *command(output)],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(random.Random(seed).uniform(0.1, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
            assert process.wait() == -number
            killed += 1
        if number != signal.SIGKILL:
            assert {path.name for path in output.parent.iterdir()} <= {name}, "it cleaned up by itself"
        if output.exists():
            is_whole(output)
            subprocess.run([*LATENTRT, *command(output)], capture_output=True, check=False)  # it refuses the output
        else:
            run(command(output))
            is_whole(output)
        assert [path.name for path in output.parent.iterdir()] == [name]
    assert killed > KILLS // 3, "hardly a run was killed before its end"


def run(arguments: list[str]) -> None:
    output = Path(arguments[arguments.index("-o") + 1] if "-o" in arguments else arguments[-1])
    output.parent.mkdir(exist_ok=True)
    done = subprocess.run([*LATENTRT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
