"""All measurements of one backend with one case."""

from pathlib import Path

from .calls import call_measures
from .features import feature_measures
from .overhead import overhead_measures
from .processes import Measures
from .residency import residency_measures
from .subject import Subject

__all__ = ["backend_measures"]


def backend_measures(subject: Subject, folder: Path) -> Measures:
    """Return the measurements by (part, name of the backend). Clips are written to `folder`."""
    measures = dict(call_measures(subject, folder))
    for more in (feature_measures(subject, folder), overhead_measures(subject), residency_measures(subject)):
        measures |= more
    return measures
