"""One call as a value: its arrays, its settings and its size, checked once before anything runs.

No engine is in sight here, and no measurement. How a call runs belongs to `execution`; which way it takes within a
memory budget belongs to `planner`.
"""
