"""LatentRT inside other libraries: its autoencoders and engines where users of these libraries expect them.

Each folder is one integration with one library, and has an extra of its own. An integration uses `runtime` and
`export`, which know no integration. What belongs here is what only one library needs; what all callers need belongs in
`runtime`. Importing this package imports no integration.
"""
