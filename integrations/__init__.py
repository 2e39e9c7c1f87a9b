"""LatentRT where its users work: adapters that put our runtime into other programs, one folder per program.

A folder uses `runtime`, and imports `export` only inside functions. The library that it adapts to belongs to an extra
of its own, or to the program that loads it. Nothing below knows this package. What several programs need belongs to
`runtime`.
"""
