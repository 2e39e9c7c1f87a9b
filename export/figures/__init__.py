"""Drawing: tile plans, charts, pictures side by side, and sample pictures and clips drawn with NumPy."""
