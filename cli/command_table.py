"""The commands of `latentrt`: the module that holds each one, and its line in the list of commands.

`latentrt --help` and completion read this table, so they import no command. A test compares the lines with the first
sentences of the commands' own help.
"""

from dataclasses import dataclass

__all__ = ["COMMANDS", "CommandEntry"]


@dataclass(frozen=True)
class CommandEntry:
    """One command.

    Attributes:
        module: the module in this folder that holds the command, under the command's own name.
        line: the command's line in `latentrt --help`.
    """

    module: str
    line: str


COMMANDS: dict[str, CommandEntry] = {
    "export": CommandEntry("export", "Export the checkpoint SOURCE to the folder BUNDLE."),
    "convert": CommandEntry("convert", "Convert the checkpoint SOURCE to the diffusers folder FOLDER."),
    "build": CommandEntry("build", "Build TensorRT engines for the graphs of BUNDLE."),
    "encode": CommandEntry("encode", "Encode pictures or clips with BUNDLE to latents files."),
    "decode": CommandEntry("decode", "Decode the file LATENTS with BUNDLE."),
    "verify": CommandEntry("verify", "Compare BUNDLE on every backend with the PyTorch reference."),
    "selftest": CommandEntry("checking.selftest", "Test the engines of BUNDLE against results that it holds."),
    "compare": CommandEntry("checking.compare", "Compare the backends and precisions of BUNDLE with each other."),
    "plan": CommandEntry("plan", "Show how BUNDLE would run a size, and in how much memory."),
    "calibrate": CommandEntry("calibrate", "Measure small calls of BUNDLE for the planner."),
    "bench": CommandEntry("bench", "Measure how fast BUNDLE runs on every usable backend."),
    "warmup": CommandEntry("warmup", "Load and run the engines of BUNDLE before the first request."),
    "inspect": CommandEntry("inspect", "Show what a bundle or a checkpoint holds, without loading it."),
    "upgrade": CommandEntry("upgrade", "Bring BUNDLE of an earlier version to today's form."),
    "doctor": CommandEntry("doctor", "Show which backends can run on this machine."),
    "demo": CommandEntry("demo", "Export the embedded demo models and run samples through them."),
    "completion": CommandEntry("completion", "Print the script that completes `latentrt` in SHELL."),
}
