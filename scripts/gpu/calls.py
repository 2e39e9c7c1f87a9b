"""Plain calls of a backend: from host to host, from device to device, as pixels, and from latents to a file."""

import time
from pathlib import Path
from typing import Any

from .clock import MemoryWatch, median_seconds, synchronise
from .processes import Measures
from .subject import Subject

__all__ = ["call_measures", "clip_written", "verb"]


def call_measures(subject: Subject, folder: Path) -> Measures:
    """Return the measurements of calls: latency, memory and parity for each place of the result, and a clip's file."""
    does, by = verb(subject.component), subject.contender.name
    measures: dict[Any, Any] = {
        (f"{does}, on the host", by): lambda: _first_of_all(subject),
        (f"{does}, on the device", by): lambda: _plain(subject, "device"),
        (f"{does}, uint8", by): lambda: _plain(subject, "uint8"),
        ("clip", by): lambda: _clip(subject, folder),
        ("warm start", by): lambda: _first_of_all(subject),
        ("refitted", by): lambda: _refitted(subject),
    }
    return measures


def verb(component: str) -> str:
    return "encode" if component == "encoder" else "decode"


def _first_of_all(subject: Subject) -> dict[str, Any]:
    """Measure the start of a process: seconds to open, of the first call and of later calls, and peak GPU memory."""
    with MemoryWatch(subject.device) as memory:
        started = time.perf_counter()
        vae = subject.vae
        opened = time.perf_counter()
        result = subject.run(vae, subject.array)
        synchronise(subject.device)
        first = time.perf_counter()
        subject.on_host()
    return {
        "open_seconds": opened - started,
        "first_seconds": first - opened,
        "seconds": median_seconds(subject.on_host, subject.device),
        "peak_bytes": memory.peak_bytes,
        "psnr_db": subject.psnr_db(result),
        "least": {"psnr_db": subject.contender.least_db()},
    }


def _refitted(subject: Subject) -> dict[str, Any]:
    """Measure an engine without weights, which takes the weights of the bundle when it is opened."""
    subject.need_engines("engine without weights")
    return _first_of_all(subject)


def _plain(subject: Subject, output: str) -> dict[str, Any]:
    call = subject.call(output)
    result = call()
    synchronise(subject.device)
    return {
        "seconds": median_seconds(call, subject.device),
        "psnr_db": subject.psnr_db(result),
        "least": {"psnr_db": subject.contender.least_db(output)},
    }


def _clip(subject: Subject, folder: Path) -> dict[str, Any]:
    """Measure the time from latents (on the GPU if there is one) to the first uint8 frame and to a whole MP4."""
    frames = subject.vae.decode_frames(subject.array_there, output="uint8")
    return clip_written(frames, folder / f"{subject.contender.name}.mp4")


def clip_written(frames: Any, path: Path) -> dict[str, Any]:
    """Write frames, arrays (1, t, H, W, 3), to a file; measure the time to the first frames and to the whole file."""
    from latentrt.runtime.media.clips.clip_writer import write_clip

    started = time.perf_counter()
    first = None
    with write_clip(path, 24, overwrite=True) as clip:
        for group in frames:
            first = first or time.perf_counter() - started
            clip.write(group[0])
    return {
        "first_frame_seconds": first,
        "seconds": time.perf_counter() - started,
        "clip_bytes": path.stat().st_size,
    }
