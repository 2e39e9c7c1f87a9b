"""Parity and quality: a bundle compared with its PyTorch reference, and tiles compared with one pass."""
