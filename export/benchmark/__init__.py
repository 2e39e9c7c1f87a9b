"""Measures a bundle: the cases, one process per case, rounds in turns, and the report.

The scripts that measure LatentRT itself are under `scripts/`.
"""
