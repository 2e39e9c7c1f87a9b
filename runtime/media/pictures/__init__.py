"""Still pictures: reading one as uint8 RGB pixels, and writing one.

Animated pictures are clips, and belong to `clips`.
"""
