"""Turns a PyTorch module into an ONNX graph, node by node.

The choice of the graphs in a bundle belongs to `graphs`. The PyTorch models belong to `models`.
"""
