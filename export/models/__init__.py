"""The PyTorch reference models: what is exported, and what every backend is compared with.

One module per family, and the layers that they share. A model computes moments and samples; sampling and scaling
latents belong to the runtime. `reference_model` makes the model of a config.
"""
