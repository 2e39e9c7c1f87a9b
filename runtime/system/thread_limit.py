"""Whether the system starts as many threads as an engine needs."""

import os
import threading

from ..errors import EngineError

__all__ = ["check_threads"]

_MOST_TRIED = 64  # A limit that is met later is not seen. Starting one thread takes about 50 microseconds.


def check_threads(count: int | None) -> None:
    """Start `count` threads (None: one for each core) and end them again. An engine whose threads do not start may
    wait for them without end, as ONNX Runtime 1.32 does.

    Raises:
        EngineError: the system does not start that many.
    """
    # The caller's thread computes too, and one thread of ours reads weights meanwhile.
    wanted = min(count or os.cpu_count() or 1, _MOST_TRIED)
    end = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=end.wait, name="latentrt-limit", daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise EngineError(
            f"the engine needs {wanted} more threads, and the system starts {len(started)}: raise the limit of the "
            f"user (`ulimit -u`) or of the container (pids.max), or give fewer threads"
        ) from error
    finally:
        end.set()
        for thread in started:
            thread.join()
