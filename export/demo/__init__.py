"""The demo: embedded models, and a run that sends pictures and a clip through them."""
