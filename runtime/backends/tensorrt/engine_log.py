"""The messages of TensorRT: log records, and the last error for messages of LatentRT."""

import logging
from typing import Any

__all__ = ["engine_log"]

_log = logging.getLogger(__name__)


def engine_log(library: Any) -> Any:
    """A logger of the library's own class. Its `last_error` is one sentence."""
    levels = {library.ILogger.Severity.WARNING: logging.INFO, library.ILogger.Severity.INFO: logging.DEBUG}
    errors = (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR)

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.last_error = "it does not say why"

        def log(self, severity: Any, message: str) -> None:
            if severity in errors:
                self.last_error = " ".join(message.split())
            _log.log(levels.get(severity, logging.INFO if severity in errors else logging.DEBUG), "%s", message)

    return Logger()
