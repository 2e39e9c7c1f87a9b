"""The node *Decode to video file*."""

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import folder_paths
import numpy as np
import torch
from comfy_api.latest import InputImpl, io, ui
from numpy.typing import NDArray

from ...runtime.errors import InputError
from ...runtime.media.clips.clip_writer import write_clip
from ...runtime.media.clips.video_writer import VideoWriter
from .call_watch import CallWatch
from .vae import LatentRTVAE

__all__ = ["DecodeToVideoFile", "decode_to_file"]

FORMATS = ["mp4", "webm", "mkv", "gif"]
_PREVIEW_SECONDS = 0.5  # at most one preview in this time
_PREVIEW_SIDE = 512  # pixels


class DecodeToVideoFile(io.ComfyNode):
    """Decodes clips to files while later frames are still decoded, in memory that a clip's length does not change."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return io.Schema(
            node_id="LatentRTDecodeToVideoFile",
            display_name="Decode to video file",
            category="latentrt",
            description="Decodes a clip straight to a video file in the output folder. The frames are never all in "
            "memory. Needs the VAE of Load LatentRT VAE.",
            inputs=[
                io.Latent.Input("samples"),
                io.Vae.Input("vae"),
                io.String.Input("filename_prefix", default="video/LatentRT"),
                io.Float.Input("frame_rate", default=24.0, min=0.01, max=1000.0, step=0.01),
                io.Combo.Input("format", options=FORMATS, default="mp4"),
                io.Boolean.Input("preview", default=True, tooltip="Show frames while the clip is decoded."),
            ],
            outputs=[
                io.Video.Output(display_name="videos", is_output_list=True),
                io.String.Output(display_name="files", is_output_list=True),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        samples: dict[str, Any],
        vae: Any,
        filename_prefix: str,
        frame_rate: float,
        format: str,  # the name that ComfyUI's own nodes have
        preview: bool,
    ) -> io.NodeOutput:
        """Decode each clip of the batch to a file of its own."""
        latents = samples["samples"]
        if not isinstance(vae, LatentRTVAE) or vae.latent_dim != 3:
            got = type(vae).__name__ if not isinstance(vae, LatentRTVAE) else "one of an image model"
            raise InputError(f"vae: wanted the VAE of a video model by Load LatentRT VAE, got {got}: connect that node")
        rate = Fraction(frame_rate).limit_denominator(1001)
        files, shown = [], []
        for clip in latents.split(1):
            height, width = (size * vae.spacial_compression_decode() for size in clip.shape[-2:])
            folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
                filename_prefix, folder_paths.get_output_directory(), width, height
            )
            file = Path(folder) / f"{name}_{counter:05}_.{format}"
            decode_to_file(vae, clip, file, rate, preview=preview)
            files.append(file)
            shown.append(ui.SavedResult(file.name, subfolder, io.FolderType.output))
        videos = [InputImpl.VideoFromFile(str(file)) for file in files]
        return io.NodeOutput(videos, [str(file) for file in files], ui=ui.PreviewVideo(shown))


def decode_to_file(vae: LatentRTVAE, latents: torch.Tensor, file: Path, rate: Fraction, *, preview: bool) -> None:
    """Decode one clip to a video file, frame by frame. The file is whole or absent.

    Without a memory budget the clip is decoded as a stream, with the pixels of a single pass. With one the planner
    decides.

    Args:
        latents: (1, C, t, h, w), latents of ComfyUI.
        file: the new file.
        rate: frames per second.
        preview: whether frames are shown while the clip is decoded.

    Raises:
        LatentRTError: see `decode_stream`. InterruptProcessingException: the user interrupts; no file is left.
    """
    model = vae.first_stage_model
    autoencoder: Any = model.autoencoder
    array, conditions = model.model_latents(latents, seed=vae.seed)
    total, done, shown = model.space.frames(latents.shape[2]), 0, time.monotonic()
    model_management.load_models_gpu([vae.patcher])
    with CallWatch() as watch, write_clip(file, rate) as writer:
        options = {"output": "uint8", "cancel": watch.cancel, **conditions}
        if model.memory is None:
            groups = autoencoder.decode_stream(array, **options)
        else:
            height, width = (size * model.space.spatial for size in latents.shape[-2:])
            held = VideoWriter.held_bytes(height, width)
            groups = autoencoder.decode_frames(array, memory=model.memory, caller_bytes=held, **options)
        try:
            for group in groups:
                for frame in group[0]:
                    writer.write(frame)
                    done += 1
                    picture = None
                    if preview and time.monotonic() - shown >= _PREVIEW_SECONDS:
                        picture, shown = _preview(frame), time.monotonic()
                    watch.progress(done, total, picture)
        finally:
            groups.close()


def _preview(frame: NDArray[np.uint8]) -> tuple[str, Any, int]:
    from PIL import Image

    return "JPEG", Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame[..., :3]), _PREVIEW_SIDE
