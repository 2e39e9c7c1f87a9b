"""TensorRT and TensorRT-RTX: which engine of the bundle runs a call, and its execution contexts.

Building engines belongs to `latentrt.export.engines`.
"""
