"""The array boundary: checks of the arrays that users pass in, and the values that they get back.

Legal sizes, pixels, the posterior, latent statistics, and the output objects of `encode` and `decode` belong here.
Reading and writing files belongs to `media`. Running a call belongs to `execution`.
"""
