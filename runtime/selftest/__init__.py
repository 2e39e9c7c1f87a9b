"""The self-test: an engine runs the golden samples of its bundle, and proves itself before its first result.

The samples, the measure, the thresholds, and the record of passed tests belong here. The samples are made by
`export/samples/`. Comparing a bundle with its checkpoint belongs to `export/verify/`.
"""
