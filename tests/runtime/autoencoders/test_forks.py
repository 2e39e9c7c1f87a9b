"""Forked processes: engines of the parent process are refused in the child, and nothing hangs or crashes there."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from places import TESTS

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # of Python 3.12
]
BundleOf = Callable[[str], Path]

# Each case runs in a process of its own. The child says what it saw and ends as a server's worker does.
START = """
import os, sys, threading, time
import numpy as np
from latentrt.runtime import LatentRTError, open_bundle
image, video, backend = sys.argv[1:]
z, clip = np.zeros((1, 4, 8, 8), np.float32), np.zeros((1, 8, 4, 4, 4), np.float32)

def refused(call):
    try:
        call()
    except LatentRTError as error:
        assert "open the bundle again in this process, after the fork" in str(error), error
    else:
        raise SystemExit("the call was not refused")

def opens_its_own():
    with open_bundle(image, backend=backend, threads=2) as own:
        own.decode(z)

vae = open_bundle(image, backend=backend, threads=2)
"""
END = """
_, status = os.waitpid(child, 0)
assert status == 0, status
vae.decode(z)
os._exit(0)
"""
CASES = {
    "used": """
        vae.decode(z)
        if (child := os.fork()) == 0:
            for call in (lambda: vae.decode(z), lambda: vae.tiled_decode(z), vae.warmup, lambda: vae.load("decoder")):
                refused(call)
            vae.cancel()
            vae.release()
            refused(lambda: vae.decode(z))
            opens_its_own()
            vae.close()
            sys.exit(0)
    """,
    "left as it is": """
        vae.decode(z)
        if (child := os.fork()) == 0:
            sys.exit(0)
    """,
    "deleted": """
        vae.decode(z)
        if (child := os.fork()) == 0:
            del vae
            import gc; gc.collect()
            sys.exit(0)
    """,
    "busy": """
        vae.decode(z)
        stop = threading.Event()
        def work():
            while not stop.is_set():
                vae.decode(z)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads: thread.start()
        time.sleep(0.2)
        if (child := os.fork()) == 0:
            refused(lambda: vae.decode(z))
            opens_its_own()
            vae.close()
            sys.exit(0)
        stop.set()
        for thread in threads: thread.join()
    """,
    "opened and not used": """
        if (child := os.fork()) == 0:
            assert vae.decode(z).sample.shape[0] == 1
            vae.close()
            sys.exit(0)
    """,
    "in the middle of a stream": """
        moving = open_bundle(video, backend=backend, threads=2)
        clip = np.zeros((1, moving.config.latent_channels, 4, 4, 4), np.float32)
        pieces = moving.decode_stream(clip, 1)
        next(pieces)
        if (child := os.fork()) == 0:
            refused(lambda: next(pieces))
            pieces.close()
            refused(lambda: moving.decode(clip))
            sys.exit(0)
        assert sum(1 for _ in pieces) > 0
    """,
    "in the middle of tiles": """
        moving = open_bundle(video, backend=backend, threads=2)
        moving.enable_tiling(tile_sample_min_num_frames=17, tile_sample_stride_num_frames=8)
        clip = np.zeros((1, moving.config.latent_channels, 6, 4, 4), np.float32)
        pieces = moving.decode_frames(clip)
        next(pieces)
        if (child := os.fork()) == 0:
            refused(lambda: next(pieces))
            del pieces
            sys.exit(0)
        assert sum(1 for _ in pieces) > 0
    """,
}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("case", CASES)
def test_a_forked_child_neither_hangs_nor_crashes(case: str, backend: str, bundle_of: BundleOf) -> None:
    program = START + textwrap.dedent(CASES[case]) + END
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        program,  # Python 3.12 warns of each fork
        str(bundle_of("sd")),
        str(bundle_of("ltx20")),
        backend,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_that_open_their_own_bundle_work(method: str, bundle_of: BundleOf) -> None:
    # The test's own process holds objects of many tests, which a forked child could try to free.
    program = str(TESTS / "support" / "pool_of_bundles.py")
    command = [sys.executable, "-W", "ignore", program, method, str(bundle_of("sd"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
