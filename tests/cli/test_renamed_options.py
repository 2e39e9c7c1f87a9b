"""Options that were renamed answer to their earlier names too, and only the new names are shown."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from command_line import invoke

from latentrt.cli.bench import bench
from latentrt.cli.main import cli
from latentrt.cli.options.renamed import RenamedOption
from latentrt.export.benchmark.selection import Selection, select_cases
from latentrt.runtime import InputError
from latentrt.runtime.bundle.manifest import Manifest


@pytest.mark.parametrize("given", ["--strips", "--exact"])
def test_strips_are_asked_for_by_both_names(given: str, bundle_of: Callable[[str], Path]) -> None:
    result = invoke("decode", bundle_of("relu_one_block"), "z.safetensors", "-o", "y", given, "--tile", "64x64")
    assert result.exit_code == 2
    assert f"{given} needs no --tile" in result.output


@pytest.mark.parametrize(
    ("given", "strips"), [("--no-strips", False), ("--no-exact-tiles", False), ("--exact-tiles", True)]
)
def test_an_export_takes_both_names_of_strips(
    given: str, strips: bool, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    invoke("export", checkpoint_of("relu_one_block"), tmp_path / "bundle", "--component", "decoder", given)
    assert bool(Manifest.open(tmp_path / "bundle").strip_graphs) == strips


@pytest.mark.parametrize("given", ["--strips", "--exact-tiles"])
def test_a_build_takes_both_names_of_strips(given: str, bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_of("ltx20"), folder)
    values = json.loads((folder / "manifest.json").read_text())
    for graph in values["components"]["decoder"]["streams"] + values["components"]["encoder"]["streams"]:
        del graph["halo"]  # as in a bundle of an earlier version
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=rf"{given}: .* holds no float32 graphs that run in strips; export it again"):
        invoke("build", folder, "--backend", "tensorrt-rtx", given)


@pytest.mark.parametrize("given", ["strips", "exact"])
def test_a_benchmark_takes_both_names_of_strips(given: str, bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    converted = bench.params[[one.name for one in bench.params].index("strategies")].type.convert(given, None, None)
    cases, _ = select_cases(manifest, Selection(backends=("onnxruntime",), strategies=(converted,)))
    assert {case.strategy for case in cases} == {"strips"}


@pytest.mark.parametrize("command", ["export", "build", "encode", "decode", "plan", "warmup"])
def test_help_shows_the_new_name_alone(command: str) -> None:
    text = invoke(command, "--help").output
    assert "--strips" in text
    assert "--exact" not in text


def test_completion_offers_the_new_name_alone() -> None:
    context = click.Context(cli)
    command = cli.get_command(context, "export")
    assert command is not None
    items = [item.value for item in command.shell_complete(click.Context(command), "--")]
    assert {"--strips", "--no-strips"} <= set(items)
    assert not [item for item in items if "exact" in item]


def test_a_renamed_option_answers_to_its_two_names_and_to_no_other() -> None:
    @click.command()
    @click.option("--new", cls=RenamedOption, former="--old", since="0.1")
    def command(new: str | None) -> None:
        click.echo(new)

    assert CliRunner().invoke(command, ["--old", "1"]).output == "1\n"
    assert CliRunner().invoke(command, ["--new", "2"]).output == "2\n"
    assert CliRunner().invoke(command, ["--other", "3"]).exit_code == 2
