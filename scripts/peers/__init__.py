"""What scripts/bench_peers measures, and how."""
