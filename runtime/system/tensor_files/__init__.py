"""Files of tensors: the format of `torch.save`, zip archives, dtypes that NumPy lacks, and safetensors' header.

Nothing that a file holds is run. Which tensors count, and what they mean, belongs to the rooms that read them.
"""
