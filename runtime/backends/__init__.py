"""The seam between the runtime and the engines.

`backend.py` and `component.py` say what a backend gives, `choose.py` chooses one, and `sessions.py` holds the engines
that it has loaded. Each folder is one backend, which knows the bundle and the machine. It knows neither the other
backends nor how a call is divided into engine calls, which belongs to `execution`. A backend of the caller's is an
object of a subclass of `Backend`.
"""
