"""CUDA for every backend that runs on an NVIDIA GPU: devices, their memory, their arrays, captured launches.

What only TensorRT needs belongs to `tensorrt`.
"""
