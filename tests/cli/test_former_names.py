"""Names that were replaced work for one minor version with a warning, and no promised name goes without one."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from command_line import invoke
from places import TESTS

import latentrt
from latentrt.cli.command_table import COMMANDS
from latentrt.cli.main import cli
from latentrt.cli.options.renamed import RenamedOption
from latentrt.former_names import FORMER_NAMES, FormerName
from latentrt.runtime.extras import installed_version

PROMISED = json.loads((TESTS / "house" / "promised_names.json").read_text())
"""The names of `latentrt` and the options of each command, as of the latest minor version. Add to it at a release."""


def options_of(command: str) -> Iterator[click.Option]:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    return (one for one in found.params if isinstance(one, click.Option))


def former_options() -> list[FormerName]:
    renamed = [one for name in COMMANDS for one in options_of(name) if isinstance(one, RenamedOption)]
    return [former for one in renamed for former in one.former_names]


def test_every_promised_name_is_there_or_warns() -> None:
    assert set(PROMISED["latentrt"]) - {*latentrt.__all__, *FORMER_NAMES} == set()
    for command, promised in PROMISED["commands"].items():
        assert command in COMMANDS
        names = {name for one in options_of(command) for name in (*one.opts, *one.secondary_opts)}
        former = {
            one.name
            for option in options_of(command)
            if isinstance(option, RenamedOption)
            for one in option.former_names
        }
        assert set(promised) - names - former == set(), command


def test_no_former_name_outlives_its_minor_version() -> None:
    numbers = re.findall(r"\d+", str(installed_version("latentrt")))
    now = tuple(map(int, numbers[:2]))
    for former in (*FORMER_NAMES.values(), *former_options()):
        assert now < tuple(map(int, former.goes_in.split("."))), f"remove {former.name}: its time is over"
    assert {one.name for one in former_options()} == {"--exact", "--exact-tiles", "--no-exact-tiles"}


@pytest.mark.parametrize(
    ("given", "instead"), [("--exact-tiles", "--strips"), ("--no-exact-tiles", "--no-strips"), ("--strips", "")]
)
def test_a_former_option_warns_in_one_sentence(
    given: str, instead: str, checkpoint_of: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        invoke("export", checkpoint_of("no_attention"), tmp_path / "bundle", "--component", "decoder", given)
    sentence = f"{given} is the former name of {instead} and goes in latentrt 0.2: use {instead}"
    found = [record.message for record in caplog.records if "former name" in record.message]
    assert found == ([sentence] if instead else [])


def test_a_former_name_of_the_package_warns_and_is_the_name_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMER_NAMES, "open", FormerName("latentrt.open", "latentrt.open_bundle", "0.1"))
    with pytest.warns(FutureWarning, match=r"latentrt\.open is the former name of latentrt\.open_bundle and goes in"):
        assert latentrt.open is latentrt.open_bundle
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AttributeError, match="has no attribute 'close'"):
            _ = latentrt.close
