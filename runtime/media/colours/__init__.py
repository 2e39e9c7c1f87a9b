"""Colour profiles, colour spaces and colour tags, and conversion of colour values between spaces.

Decoding the pixels of a picture or a frame belongs to `pictures` or `clips`.
"""
