"""Names and shapes of a model's parameters, computed from its config without torch: one module per family.

Reading the tensors of a checkpoint belongs to the room above; the PyTorch models belong to `export/models`.
"""
