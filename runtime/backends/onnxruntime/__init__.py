"""ONNX Runtime: one graph as a session, its memory arena, and the weights it is given in memory.

The files of a bundle belong to `runtime/bundle`. Memory, arrays and streams on a GPU belong to `cuda`.
"""
