"""The measurements of scripts/gpu_check."""
