"""The machine and its files: memory, processor, child processes, locks, and outputs that are whole or absent.

What belongs here could serve any program: it knows nothing of models, bundles or engines. What reads or writes a
picture, a clip or latents belongs to `media`; optional libraries are imported through `runtime/extras.py`.
"""
