"""OpenVINO: one graph as compiled models, their cache, and what is rewritten for CPUs before compiling.

The arithmetic of Winograd and of doubled pictures, which needs no OpenVINO, belongs to the folder above.
"""
