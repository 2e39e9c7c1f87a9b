"""How much of the GPU's memory one autoencoder may take, and what it holds of it."""

import threading

from ...errors import DeviceMemoryError

__all__ = ["MemoryLedger", "mib"]


class MemoryLedger:
    """Counts what is held, in bytes, and refuses what would go over `limit` (None: no limit)."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.taken = 0
        self._lock = threading.RLock()  # a buffer may be collected, and given back, in the middle of a count

    @property
    def left(self) -> int | None:
        """What may still be taken, or None where there is no limit."""
        return None if self.limit is None else max(self.limit - self.taken, 0)

    def take(self, size: int, what: str) -> None:
        """Count `size` bytes more.

        Raises:
            DeviceMemoryError: that would be more than the limit; nothing is counted then.
        """
        with self._lock:
            if self.limit is not None and self.taken + size > self.limit:
                raise DeviceMemoryError(
                    f"{mib(size)} of {what} are more than device_memory_bytes leaves: {mib(self.taken)} of "
                    f"{mib(self.limit)} are taken"
                )
            self.taken += size

    def give_back(self, size: int) -> None:
        """Those bytes are free again."""
        with self._lock:
            self.taken -= size


def mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
