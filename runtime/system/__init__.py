"""The machine and its files: memory, processor, child processes, locks, caches, and outputs that are whole or absent.

Code belongs here if any program could use it, because it knows no models, bundles or engines. Code that reads or
writes pictures, clips or latents belongs to `media`. Optional libraries are imported through `runtime/extras.py`.
"""
