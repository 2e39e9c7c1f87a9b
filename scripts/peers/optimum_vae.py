"""Runs optimum-onnx's session of an image VAE. Arguments: CHECKPOINT COMPONENT THREADS INPUT.

optimum-onnx needs older releases of transformers and huggingface_hub than LatentRT's environment has. So it has an
environment of its own (`scripts/bench_peers --optimum-python`), and this file imports nothing of LatentRT. It prints
"ready". Then, for each line on standard input, it runs once, writes the result to the file that the line names, and
prints its peak memory in GiB.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from onnxruntime import InferenceSession, SessionOptions
from optimum.exporters.onnx import export
from optimum.exporters.onnx.model_configs import VaeDecoderOnnxConfig, VaeEncoderOnnxConfig
from optimum.onnxruntime.modeling_diffusion import ORTVaeDecoder, ORTVaeEncoder


def export_component(checkpoint: Path, component: str, folder: Path) -> Path:
    """Export the component as `optimum-cli export onnx` does for a pipeline, with its forward, inputs and axes."""
    model_class: Any = AutoencoderKL  # its from_pretrained has no types
    vae = model_class.from_pretrained(checkpoint).eval()
    if component == "encoder":
        vae.forward = lambda sample: {"latent_parameters": vae.encode(x=sample)["latent_dist"].parameters}
        config = VaeEncoderOnnxConfig(vae.config, task="semantic-segmentation")
    else:
        vae.forward = lambda latent_sample: vae.decode(z=latent_sample)
        config = VaeDecoderOnnxConfig(vae.config, task="semantic-segmentation")
    path = folder / "model.onnx"
    export(vae, config, path, opset=config.DEFAULT_ONNX_OPSET)
    vae.save_config(folder)
    return path


def peak_gib() -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**20


def main() -> None:
    checkpoint, component, threads, given = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with tempfile.TemporaryDirectory() as folder:
        path = export_component(Path(checkpoint), component, Path(folder))
        options = SessionOptions()
        options.intra_op_num_threads = int(threads)
        session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        kind, name = (ORTVaeEncoder, "sample") if component == "encoder" else (ORTVaeDecoder, "latent_sample")
        model = kind(session, parent=None)
        values = torch.from_numpy(np.load(given))
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak, which includes the export
        print("ready", flush=True)
        for line in sys.stdin:
            (result,) = list(model.forward(**{name: values}, return_dict=False))[:1]
            distribution = getattr(result, "parameters", result)  # an encoder's may be wrapped
            np.save(line.strip(), distribution.numpy())
            print(peak_gib(), flush=True)


if __name__ == "__main__":
    main()
