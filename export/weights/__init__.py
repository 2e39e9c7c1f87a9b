"""Tensors in files: reading and writing safetensors without a framework, and rounding to float16 and bfloat16.

The meaning of a checkpoint's tensors belongs to `checkpoints`.
"""
