"""What the documents name is there: commands with their options, scripts, files; and the map has every file."""

import fnmatch
import re
from pathlib import Path

import click
import pytest
from places import ROOT

from latentrt.cli.main import cli

PATHS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in PATHS)
SHARED_LINES = ("commands", "config", "models", "engines", "benchmark", "demo")  # one line of the map for all files


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_with_its_options_exists(name: str) -> None:
    assert wrong_commands((ROOT / name).read_text(encoding="utf-8")) == []


def test_a_command_or_an_option_that_does_not_exist_is_seen() -> None:
    text = "`latentrt decode bundle z.safetensors --fast` and `latentrt bake x`, not `latentrt decode z --stream`"
    assert wrong_commands(text) == ["latentrt decode --fast", "latentrt bake"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_and_script_is_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []
    scripts = re.findall(r"\bscripts/\w+(?:\.\w+)?", text)
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def test_the_map_names_every_file_and_no_other() -> None:
    named = set(re.findall(r"`[\w*/]*?([\w*]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")))
    files = [path for folder in ("export", "runtime", "tiling") for path in (ROOT / folder).rglob("[!_]*.py")]
    assert [str(path) for path in files if path.parent.name not in SHARED_LINES and not is_named(path, named)] == []
    known = [*files, *(ROOT / "tests").rglob("*.py"), *(ROOT / "runtime").rglob("__init__.py")]
    assert [name for name in named if not fnmatch.filter([path.name for path in known], name)] == []


def is_named(path: Path, named: set[str]) -> bool:
    return any(fnmatch.fnmatch(path.name, name) for name in named)


def wrong_commands(text: str) -> list[str]:
    context, wrong = click.Context(cli), []
    for name, words in re.findall(r"\blatentrt ([a-z]+)([^`\n#|;]*)", text):
        command = cli.get_command(context, name)
        if command is None:
            wrong.append(f"latentrt {name}")
            continue
        options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        options |= {name for one in command.params for name in getattr(one, "former_opts", ())}  # in the history
        wrong += [f"latentrt {name} {one}" for one in re.findall(r"(?<!\S)--[a-z-]+", words) if one not in options]
    return wrong
