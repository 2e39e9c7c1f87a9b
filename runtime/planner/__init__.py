"""From a memory budget to the way a call runs: candidates, what each costs, and the choice.

Costs come from small calls that a process of its own measures, or from the records of engines. Nothing here is
imported unless a call is planned.
"""
