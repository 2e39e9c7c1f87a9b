"""The errors that every layer can raise: the root of the error tree, and the error about an argument."""

from collections.abc import Callable

from .argument_names import Piece, Spelling, pieces_of, written
from .plain_text import as_line
from .public_place import shown_in

__all__ = ["InputError", "LatentRTError"]

_MOST_CHARACTERS = 2000  # per message, so that logs of other programs stay bounded; the command line shows fewer


@shown_in("latentrt")
class LatentRTError(Exception):
    """The root of all errors that LatentRT raises on purpose.

    The message is one sentence for the user: what was wanted, what was got, what to do. The command line prints it
    without a traceback and exits with 1.

    Messages quote files and libraries. So `str` escapes control characters, which a terminal would act on. It shortens
    the message to 2000 characters by leaving out the middle.

    Attributes:
        pieces: the message as text, and the arguments that it names (see `argument_names`).
    """

    def __init__(self, *arguments: object) -> None:
        self.pieces: tuple[Piece, ...] = pieces_of(str(arguments[0])) if arguments else ()
        super().__init__(*((written(self.pieces), *arguments[1:]) if arguments else ()))

    def __str__(self) -> str:
        return as_line(super().__str__(), _MOST_CHARACTERS)

    def spell(self, spelling: Spelling, reword: Callable[[str], str] = str) -> None:
        """Let another interface write the arguments that the message names, and then reword the message."""
        self.args = (reword(written(self.pieces, spelling)), *self.args[1:])


@shown_in("latentrt")
class InputError(LatentRTError):
    """An array or an argument has the wrong rank, channels, dtype, size or content."""
