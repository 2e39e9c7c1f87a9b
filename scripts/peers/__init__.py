"""The measurements of scripts/bench_peers."""
