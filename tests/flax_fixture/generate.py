"""How the files beside this one were made: diffusers' own Flax VAE, random weights, and what it decodes.

FlaxAutoencoderKL is gone from today's diffusers. In an environment of its own:

    pip install "diffusers==0.31.0" "flax==0.8.5" "jax[cpu]==0.4.30" "huggingface_hub<0.26" "transformers==4.44.2" \
        "numpy<2" "scipy<1.13"
    python tests/flax_fixture/generate.py
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from diffusers import FlaxAutoencoderKL
from flax.traverse_util import flatten_dict, unflatten_dict

here = Path(__file__).parent
model = FlaxAutoencoderKL(
    block_out_channels=(8, 16),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    layers_per_block=1,
    norm_num_groups=4,
    latent_channels=4,
    sample_size=16,
)
rng = np.random.default_rng(0)
weights = {}
for names, value in flatten_dict(model.init_weights(jax.random.PRNGKey(0))).items():
    noise = 0.2 * rng.standard_normal(value.shape) if value.ndim == 1 else 0  # norms and biases are ones and zeros
    weights[names] = jnp.asarray(value + noise, jnp.float32)
weights = unflatten_dict(weights)

model.save_pretrained(here / "float32", params=weights)
model.save_pretrained(here / "bfloat16", params=model.to_bf16(weights))
latents = rng.standard_normal((2, 4, 5, 3)).astype(np.float32)
sample = np.tanh(rng.standard_normal((1, 3, 12, 8))).astype(np.float32)
decoded = model.apply({"params": weights}, latents, method=model.decode).sample
moments = model.apply({"params": weights}, sample, method=model.encode).latent_dist
np.savez(
    here / "expected.npz",
    latents=latents,
    decoded=np.asarray(decoded),
    sample=sample,
    mean=np.asarray(moments.mean).transpose(0, 3, 1, 2),
    kernel=np.asarray(weights["encoder"]["conv_in"]["kernel"]),
)
