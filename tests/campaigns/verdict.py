"""How one case of a campaign ended."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

__all__ = ["Ending", "Verdict", "fault", "sentence_fault"]

Ending = Literal["right", "refused", "fault"]
"""right: the result is the wanted one. refused: an error of ours, in one sentence. fault: anything else."""

_MOST_CHARACTERS = 2000  # of an error message; errors of ours cut longer ones themselves


@dataclass(frozen=True)
class Verdict:
    """How a case ended.

    Attributes:
        ending: right, refused, or a fault.
        kind: of a fault: traceback, hang, crash, memory, pixels, message, or a kind of the campaign's own.
        detail: the error in one or a few lines; the last line says most.
        seconds: the time that the case took.
        peak_bytes: the most memory that the process held in addition to what it held before the case.
    """

    ending: Ending
    kind: str = ""
    detail: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        return cls(**values)


def fault(kind: str, detail: str) -> Verdict:
    """A fault of this kind."""
    return Verdict("fault", kind, detail)


def sentence_fault(text: str) -> str | None:
    """What is wrong with an error message that has to be one readable sentence, or None."""
    if not text.strip():
        return "the message is empty"
    if not text.isprintable():
        return f"the message holds characters that cannot be printed: {text[:300]!r}"
    if len(text) > _MOST_CHARACTERS:
        return f"the message has {len(text)} characters: {text[:300]}..."
    return None
