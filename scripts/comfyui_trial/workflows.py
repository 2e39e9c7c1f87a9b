"""Workflows through a running ComfyUI: our nodes with its own."""

import time
from pathlib import Path
from typing import Any

from comfyui_trial.server import Server, WorkflowFailed

__all__ = ["run_workflows"]

_FRAMES = 9
_LONG_FRAMES = 129
Workflow = dict[str, dict[str, Any]]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """One node of a workflow."""
    return {"class_type": kind, "inputs": inputs}


def loader(bundle: str, tiled_nodes: str = "tiles") -> dict[str, Any]:
    """Our loader."""
    options = {"backend": "onnxruntime", "dtype": "float32", "memory": "", "tiled_nodes": tiled_nodes}
    return node("LatentRTLoadVAE", bundle=bundle, **options)


TILES = {"tile_size": 64, "overlap": 16, "temporal_size": 8, "temporal_overlap": 4}


def pictures() -> Workflow:
    """A picture through the plain and the tiled nodes, with tiles and with exact strips."""
    return {
        "1": loader("image"),
        "2": node("LoadImage", image="picture.png"),
        "3": node("VAEEncode", pixels=["2", 0], vae=["1", 0]),
        "4": node("VAEDecode", samples=["3", 0], vae=["1", 0]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="decoded"),
        "6": node("VAEEncodeTiled", pixels=["2", 0], vae=["1", 0], **TILES),
        "7": node("VAEDecodeTiled", samples=["6", 0], vae=["1", 0], **TILES),
        "8": node("SaveImage", images=["7", 0], filename_prefix="tiled"),
        "9": loader("image", "exact"),
        "10": node("VAEDecodeTiled", samples=["3", 0], vae=["9", 0], **TILES),
        "11": node("SaveImage", images=["10", 0], filename_prefix="exact"),
    }


def clips() -> Workflow:
    """A clip through the plain and the tiled nodes, an LTX node, and to a file."""
    return {
        "1": loader("video"),
        "2": node("LoadImage", image="picture.png"),
        "3": node("RepeatImageBatch", image=["2", 0], amount=_FRAMES),
        "4": node("VAEEncode", pixels=["3", 0], vae=["1", 0]),
        "5": node("VAEDecode", samples=["4", 0], vae=["1", 0]),
        "6": node("SaveImage", images=["5", 0], filename_prefix="frames"),
        "7": node("VAEDecodeTiled", samples=["4", 0], vae=["1", 0], **TILES),
        "8": node("SaveImage", images=["7", 0], filename_prefix="tiled_frames"),
        "9": node("SaveLatent", samples=["4", 0], filename_prefix="clip"),
        "10": to_file(["4", 0], ["1", 0]),
    }


def to_file(samples: Any, vae: Any) -> dict[str, Any]:
    """Our node that writes a clip."""
    options = {"filename_prefix": "video/clip", "frame_rate": 24.0, "format": "mp4", "preview": True}
    return node("LatentRTDecodeToVideoFile", samples=samples, vae=vae, **options)


def made() -> Workflow:
    """A bundle made of a checkpoint, and used."""
    options = {"checkpoint": "vae/sdxl.safetensors", "name": "", "dtype": "float32", "model": "SDXL"}
    return {
        "1": node("LatentRTMakeBundle", **options),
        "2": node("EmptyLatentImage", width=128, height=128, batch_size=2),
        "3": node("VAEDecode", samples=["2", 0], vae=["1", 0]),
        "4": node("SaveImage", images=["3", 0], filename_prefix="made"),
    }


def long_clip() -> Workflow:
    """A clip that takes longer than the moment before it is interrupted."""
    return {
        "1": loader("video"),
        "2": node("LoadImage", image="picture.png"),
        "3": node("RepeatImageBatch", image=["2", 0], amount=_LONG_FRAMES),
        "4": node("VAEEncode", pixels=["3", 0], vae=["1", 0]),
        "5": to_file(["4", 0], ["1", 0]),
    }


def run_workflows(server: Server, base: Path) -> dict[str, Any]:
    """Run every workflow, and give what was seen.

    Raises:
        WorkflowFailed: one did not do what it should.
    """
    nodes = ("LatentRTLoadVAE", "LatentRTMakeBundle", "LatentRTDecodeToVideoFile")
    seen: dict[str, Any] = {
        "nodes": {name: server.call(f"/object_info/{name}")[name]["display_name"] for name in nodes}
    }
    for name, workflow in (("pictures", pictures()), ("clips", clips()), ("made", made())):
        started = time.monotonic()
        outputs = server.run(workflow)
        files = {key: len(out.get("images", out.get("latents", []))) for key, out in outputs.items()}
        seen[name] = {"files by node": files, "seconds": round(time.monotonic() - started, 1)}
    if not (base / "models" / "latentrt" / "sdxl" / "manifest.json").is_file():
        raise WorkflowFailed("the bundle was not made")
    video = base / "output" / "video"
    seen["video files"] = {path.name: path.stat().st_size for path in sorted(video.iterdir())}
    seen["interrupt"] = _interrupted(server, video)
    server.call("/free", {"unload_models": True, "free_memory": True})
    time.sleep(2)
    seen["after freeing"] = {key: len(out.get("images", [])) for key, out in server.run(pictures()).items()}
    return seen


def _interrupted(server: Server, video: Path) -> dict[str, Any]:
    """Interrupt while a clip is encoded, and while it is written."""
    before = set(video.iterdir())
    seen = {}
    for seconds in (1.0, 0.5):
        identity = server.start(long_clip())
        time.sleep(seconds)
        pressed = time.monotonic()
        server.call("/interrupt", {})
        entry = server.end_of(identity)
        messages: dict[str, Any] = dict(entry["status"]["messages"])
        if "execution_interrupted" not in messages:
            raise WorkflowFailed(f"the interrupted workflow ended with {messages}")
        node_type = messages["execution_interrupted"]["node_type"]
        seen[f"in {node_type}"] = {"seconds until it stopped": round(time.monotonic() - pressed, 2)}
        server.run({key: value for key, value in long_clip().items() if key != "5"} | _kept_latents())
    left = sorted(path.name for path in set(video.iterdir()) - before)
    return {**seen, "files left": left}


def _kept_latents() -> Workflow:
    """Keeps the latents in ComfyUI's cache, so that the next run starts at the node that writes the clip."""
    return {"9": node("SaveLatent", samples=["4", 0], filename_prefix="long")}
