"""From a memory budget to the way a call runs: the candidates, what each costs, and the choice.

Costs come from small calls, each measured in a process of its own, or from the records of engines. What a backend holds
is a value that the backend gives, and the numbers that were tuned are in `tuning.py`. Nothing here is imported unless a
call is planned.
"""
