"""LatentRT inside other programs: one folder and one extra for each program.

    latentrt.integrations.diffusers    the `vae=` of a diffusers pipeline; needs PyTorch and diffusers

An integration uses `latentrt.runtime`, and imports `latentrt.export` only inside functions. No package below imports an
integration. What belongs to one program alone stands in its folder.
"""
