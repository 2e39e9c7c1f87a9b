"""Building TensorRT engines for a bundle's graphs, in a process of their own.

Loading and running engines belongs to `latentrt.runtime.backends.tensorrt`.
"""
