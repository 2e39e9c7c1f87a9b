"""Clips: reading their frames with the right colours, sizes and times, and writing them.

Still pictures belong to `pictures`; cutting a clip into the chunks of a stream belongs to `clip_chunks` here, and
running them to `execution`.
"""
