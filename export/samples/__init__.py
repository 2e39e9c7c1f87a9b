"""The golden samples of a bundle: what their inputs show, and the results of the PyTorch reference for them.

Running them on engines belongs to `runtime/selftest/`. Comparing a bundle with its checkpoint on many inputs belongs to
`export/verify/`.
"""
