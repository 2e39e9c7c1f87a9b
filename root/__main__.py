"""`python -m latentrt` runs the command `latentrt`."""

from .cli.start import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
