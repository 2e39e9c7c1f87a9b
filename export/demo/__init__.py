"""The demo: embedded models, and a run that sends pictures and a clip through them.

Training the demo models belongs to `scripts/train_demo`. Drawing belongs to `figures`.
"""
