"""Tensors in files: safetensors read and written without a framework, and rounding to narrower precisions.

What the tensors of a checkpoint mean belongs to `checkpoints`.
"""
