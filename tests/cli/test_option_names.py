"""Messages name options as they were typed, and arguments where the same call is made from Python."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke

from latentrt.runtime import InputError, LatentRTError, LatentsFile, open_bundle, write_latents

BundleOf = Callable[..., Path]

WRONG = [
    ("sd", ("--tile", "60x64"), "--tile"),
    ("sd", ("--tile", "64x64x9"), "--tile"),
    ("sd", ("--tile", "64x64", "--overlap", "13"), "--overlap"),
    ("sd", ("--tile", "64x64", "--overlap", "64"), "--overlap"),
    ("sd", ("--tile", "72x72", "--blend", "diffusers"), "--tile"),
    ("sd", ("--blend", "ltx2"), "--blend"),
    ("sd", ("--strips", "--strip", "13"), "--strip"),
    ("sd", ("--strips", "--tile", "64x64"), "--strips"),
    ("sd", ("--exact", "--tile", "64x64"), "--exact"),
    ("sd", ("--storage", "float16"), "--storage"),
    ("sd", ("--stream",), "--stream"),
    ("sd", ("--memory", "2"), "--memory"),
    ("sd", ("--timestep", "0.05"), "--timestep"),
    ("sd", ("--seed", "1"), "--seed"),
    ("sd", ("--digest", "abc"), "--digest"),
    ("sd", ("--dtype", "float16"), "--dtype"),
    ("sd", ("--backend", "openvino", "--provider", "cpu"), "--provider"),
    ("sd", ("--scaled",), "--scaled"),
    ("sd", ("--fps", "24"), "--fps"),
    ("ltx20", ("--exact", "--tile", "64x64"), "--exact"),
    ("ltx20", ("--strips", "--strip", "13"), "--strip"),
    ("ltx20", ("--tile", "64x60x9"), "--tile"),
    ("ltx20", ("--tile", "64x64x24", "--overlap", "0x0x20"), "--overlap"),
    ("noise_timestep", ("--seed", "1"), "--timestep"),
    ("noise", (), "--seed"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("bundle", "options", "named"), WRONG)
def test_a_wrong_option_is_named_as_it_was_typed(
    bundle: str, options: tuple[str, ...], named: str, bundle_of: BundleOf, tmp_path: Path
) -> None:
    shape = (1, 16, 2, 2, 2) if bundle not in ("sd",) else (1, 4, 16, 16)
    with open_bundle(bundle_of(bundle)) as vae:
        shape = (1, vae.config.latent_channels, *shape[2:])
    write_latents(tmp_path / "z.safetensors", LatentsFile(np.zeros(shape, np.float32), scaled=False))
    text = said("decode", bundle_of(bundle), tmp_path / "z.safetensors", "-o", tmp_path / "y", *options)
    assert re.search(rf"(?<![\w-]){named}(?![\w-])", text), text
    assert argument_names(text.replace(str(tmp_path), "").replace(str(bundle_of(bundle)), "")) == []


def test_the_same_error_names_the_argument_in_python(bundle_of: BundleOf) -> None:
    with open_bundle(bundle_of("sd")) as vae:
        with pytest.raises(InputError, match=r"^tile_sample_min_height: wanted a multiple of 8"):
            vae.enable_tiling(tile_sample_min_height=60, tile_sample_min_width=64)
        with pytest.raises(InputError, match=r"^memory: 2 without a unit is 2 bytes"):
            vae.decode(np.zeros((1, 4, 16, 16), np.float32), memory=2)


def test_an_argument_name_in_a_message_is_seen() -> None:
    assert argument_names("tile_sample_min_height: wanted 8; give --tile, or pad=True") == [
        "tile_sample_min_height",
        "pad=",
    ]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("option", ["-v", "--verbose", "-q", "--quiet"])
def test_an_option_of_the_log_stands_before_the_command_or_after_it(
    option: str, before: bool, bundle_of: BundleOf, caplog: pytest.LogCaptureFixture
) -> None:
    words = [option, "inspect"] if before else ["inspect", option]
    result = invoke(*words, bundle_of("sd"))
    assert result.exit_code == 0, result.output


def test_json_stands_before_the_command_or_after_it(bundle_of: BundleOf) -> None:
    before = invoke("--json", "inspect", bundle_of("sd"))
    after = invoke("inspect", bundle_of("sd"), "--json")
    assert before.stdout == after.stdout
    assert before.stdout.startswith("{")
    refused = invoke("--json", "completion", "bash")
    assert refused.exit_code == 2
    assert "completion has no report: leave --json out" in refused.output


def test_verbose_and_quiet_exclude_each_other(bundle_of: BundleOf) -> None:
    for words in (("-v", "inspect", "-q"), ("inspect", "-v", "-q"), ("-q", "-v", "inspect")):
        result = invoke(*words, bundle_of("sd"))
        assert result.exit_code == 2
        assert "--verbose and --quiet exclude each other" in result.output


def test_a_command_that_is_misspelt_is_named() -> None:
    assert "No such command 'encod': did you mean encode?" in invoke("encod").output


def said(*words: object) -> str:
    """What the command says about wrong words."""
    try:
        result: Any = invoke(*words)
    except LatentRTError as error:
        return str(error)
    assert result.exit_code == 2, result.output
    return str(result.output).rpartition("Error: ")[2]


def argument_names(text: str) -> list[str]:
    """Names of arguments of Python in a message: with underscores, or before an equals sign."""
    return re.findall(r"\b[a-z]+(?:_[a-z]+)+\b|(?<![\w-])[a-z]+=(?=\S)", text)
