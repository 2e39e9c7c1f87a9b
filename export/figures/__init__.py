"""Pictures and plots that we draw: plans, charts, side-by-side pictures, and samples drawn with NumPy."""
