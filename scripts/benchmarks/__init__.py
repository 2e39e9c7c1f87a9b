"""What `scripts/bench` measures and how: random weights, timed processes, exports, profiles, reports."""
