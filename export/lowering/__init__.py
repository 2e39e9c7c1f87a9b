"""From a traced PyTorch model to an ONNX graph, node by node.

Which graphs a bundle gets belongs to `graphs`; the PyTorch models belong to `models`.
"""
