"""`python -m latentrt.export`: the same as the command `latentrt`."""

from .cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
