"""The graphs of a bundle: whole components, streams and strips, written as ONNX files with their weights.

The translation of single operations to ONNX belongs to `lowering`.
"""
