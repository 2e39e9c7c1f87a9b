"""`python -m latentrt`: the same as the command `latentrt`."""

from .cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
