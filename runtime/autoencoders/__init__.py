"""What users hold: the base class of all autoencoders, and one file per family.

A family says what it adds to a call. How calls are checked, planned and run belongs to `calls`, `planner` and
`execution`.
"""
