"""The graphs of a bundle: whole components, streams and exact strips, written as ONNX files with their weights.

How one node becomes ONNX belongs to `lowering`.
"""
