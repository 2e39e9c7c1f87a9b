"""Decides which parts of a graph run in float16 or bfloat16, and measures the value ranges for that decision.

Writing a graph in the chosen precisions belongs to `graphs`.
"""
