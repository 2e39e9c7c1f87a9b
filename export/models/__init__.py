"""The PyTorch reference models: the export traces them, and the tests compare every backend with them.

One module per family, and the layers that they share. A model computes moments and samples; sampling and scaling
latents belong to the runtime. `reference_model` makes the model of a config.
"""
