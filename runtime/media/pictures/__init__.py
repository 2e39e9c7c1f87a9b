"""Reading still pictures as upright uint8 pixels in sRGB, and writing them.

Animated pictures are clips and belong to `clips`. Converting colour values between spaces belongs to `colours`.
"""
