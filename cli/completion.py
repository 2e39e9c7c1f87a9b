"""`latentrt completion`: the script that makes a shell complete the commands and options of `latentrt`."""

import click
from click.shell_completion import ShellComplete, get_completion_class

__all__ = ["completion"]

_PROGRAM, _VARIABLE = "latentrt", "_LATENTRT_COMPLETE"
_INSTALLING = {
    "bash": 'add this line to ~/.bashrc: eval "$(latentrt completion bash)"',
    "zsh": 'add this line to ~/.zshrc: eval "$(latentrt completion zsh)"',
    "fish": "run: latentrt completion fish > ~/.config/fish/completions/latentrt.fish",
}


@click.command(epilog='Example: eval "$(latentrt completion bash)"')
@click.argument("shell", type=click.Choice(list(_INSTALLING)))
def completion(shell: str) -> None:
    """Print the script that completes `latentrt` in SHELL.

    The first line of the script says how to install it. Bash needs version 4.4 or later.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    complete = kind(click.get_current_context().find_root().command, {}, _PROGRAM, _VARIABLE)
    # Not complete.source(): click's class for bash runs `bash --version` there, and this machine may have no bash.
    script = ShellComplete.source(complete)
    click.echo(f"# To install: {_INSTALLING[shell]}\n{script.strip()}")
