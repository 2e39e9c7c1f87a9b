"""The seam between the runtime and the engines: what a backend gives, which one is chosen, and what it has loaded.

`component.py` is the protocol, and each folder is one backend. A backend knows the bundle and the machine; it knows
neither the other backends nor how a call is cut into engine calls, which belongs to `execution`.
"""
