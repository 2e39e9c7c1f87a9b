"""ONNX Runtime: one graph as a session, its memory arena, and the weights it is given in memory."""
