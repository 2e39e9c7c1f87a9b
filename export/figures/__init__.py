"""Drawing: tile plans, charts, pictures side by side, and sample pictures and clips drawn with NumPy.

Writing the pictures of a user belongs to `latentrt.runtime.media`.
"""
