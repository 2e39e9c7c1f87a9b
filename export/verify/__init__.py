"""Compares a bundle with its PyTorch reference (parity), and results in tiles with a single pass (tiling quality)."""
