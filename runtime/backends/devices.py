"""The GPU of this machine, through cuda-core: is it there, and what can it do."""

from ..errors import BackendUnavailable
from ..extras import require

__all__ = ["compute_capability"]


def compute_capability(device: int = 0) -> str:
    """A GPU's compute capability, such as "8.9".

    Raises:
        MissingExtra: cuda-core is not installed. BackendUnavailable: no driver or no GPU answers.
    """
    core = require("cuda.core", extra="tensorrt")
    try:
        major, minor = core.Device(device).compute_capability
    except Exception as error:  # cuda-core raises the driver's own errors, and RuntimeError without a driver
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendUnavailable(f"no NVIDIA GPU answers on this machine ({reason})") from error
    return f"{major}.{minor}"
