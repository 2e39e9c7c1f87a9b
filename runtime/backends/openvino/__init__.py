"""OpenVINO: one graph as compiled models, their cache, and what is rewritten for CPUs before compiling."""
