"""Public names that were replaced. Each one works and warns for one minor version, and then it goes.

The rule holds for the names in `latentrt.__all__` and for the options of commands. `docs/reference/compatibility.md`
states it, and a test fails when a name has outlived its time.
"""

from dataclasses import dataclass

__all__ = ["FORMER_NAMES", "FormerName"]


@dataclass(frozen=True)
class FormerName:
    """A public name that was replaced.

    Attributes:
        name: the former name, such as "latentrt.open" or "--exact-tiles".
        instead: the name that replaces it.
        since: the minor version that replaced it, such as "0.1".
    """

    name: str
    instead: str
    since: str

    @property
    def goes_in(self) -> str:
        """The minor version that has the former name no more."""
        major, minor = self.since.split(".")
        return f"{major}.{int(minor) + 1}"

    @property
    def sentence(self) -> str:
        """The warning for a user of the former name."""
        return (
            f"{self.name} is the former name of {self.instead} and goes in latentrt {self.goes_in}: use {self.instead}"
        )


FORMER_NAMES: dict[str, FormerName] = {}
"""The former names of `latentrt`, by the name without "latentrt."; `instead` is "latentrt." and a name of today."""
