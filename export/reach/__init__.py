"""What each position of a graph's results depends on, derived from the graph: scales, halos, delays and states.

The rules of single ONNX operators stand here, and the checks of streams and strips before a manifest is written. How a
graph is run in pieces belongs to the runtime.
"""
