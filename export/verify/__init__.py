"""Compares a bundle with its PyTorch reference (parity), and results in tiles with those of a single pass
(tiling quality).

Measuring speed belongs to `benchmark`. The PyTorch models belong to `models`.
"""
