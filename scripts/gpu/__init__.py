"""What scripts/gpu_check measures, and how."""
