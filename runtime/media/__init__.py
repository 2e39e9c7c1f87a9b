"""Pictures, clips and latents files: from a file to arrays and back, with their colours, sizes and times.

The rooms inside are `colours` (profiles and colour spaces), `pictures` and `clips`. Nothing here knows an autoencoder;
a whole encode or decode from file to file belongs to `files`.
"""
