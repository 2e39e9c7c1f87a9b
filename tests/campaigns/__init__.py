"""The campaigns: long runs that look for faults at random, each case reproducible by its seed and number.

`scripts/campaign` runs them: damaged files (fuzz), killed commands (kill), load (soak), cancelled calls (cancel), and
hostile files (security). What belongs here is the frame, the cases and the tests that the campaigns can find a fault.
"""
