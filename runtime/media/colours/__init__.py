"""Colour profiles, colour spaces and colour tags, as numbers: no file is opened here.

What reads the pixels of a picture or of a frame belongs to `pictures` or `clips`.
"""
