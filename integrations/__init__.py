"""LatentRT where its users work: adapters that put it into other programs and libraries, one folder for each.

A folder uses `runtime`, and imports `export` only inside functions, except for a library that its users import first,
such as PyTorch. The library that it adapts to belongs to an extra of its own, or to the program that loads it. Nothing
below knows this package. What several of them need belongs to `runtime`. Importing this package imports no integration.
"""
