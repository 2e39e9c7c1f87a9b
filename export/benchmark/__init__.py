"""Measuring a bundle: cases, one process per case, rounds in turns, and the report.

The scripts that measure LatentRT itself stand under `scripts/`.
"""
