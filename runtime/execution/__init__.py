"""How a call runs: in one pass, in tiles, in strips, or as a stream.

Everything here takes a checked call and the engines. Choosing among the ways belongs to `planner`; the plans of tiles
and their blending belong to `latentrt.tiling`.
"""
