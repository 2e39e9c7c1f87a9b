"""The array boundary: what arrays users may pass in and get back, and the values made of them.

Legal sizes, pixels, the posterior, latent statistics, and the output objects of `encode` and `decode` belong here.
Files belong to `media`; how a call runs belongs to `execution`.
"""
