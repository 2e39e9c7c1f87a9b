"""Files of tensors that other programs write: the format of `torch.save`, zip archives, and dtypes that NumPy lacks.

Nothing that such a file holds is run. Which tensors count, and what they mean, belongs to the rooms that read them.
"""
