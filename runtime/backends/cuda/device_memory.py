"""How much GPU memory one autoencoder may take, and how much it holds."""

import threading

from ...errors import DeviceMemoryError

__all__ = ["MemoryLedger", "mib"]


class MemoryLedger:
    """Counts the bytes that are held, and refuses to exceed `limit` (None: no limit)."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.taken = 0
        self._lock = threading.RLock()  # a buffer may be collected, and given back, in the middle of a count

    @property
    def left(self) -> int | None:
        """The bytes that may still be taken. None: there is no limit."""
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
        """Count `size` bytes less."""
        with self._lock:
            self.taken -= size


def mib(size: int) -> str:
    """Bytes as text in MiB."""
    return f"{size / 2**20:.0f} MiB"
