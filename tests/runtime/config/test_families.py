"""Questions about a family are asked of its config: no class is compared, and one line registers a family."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from architectures import ALL, KL_BASE, LTX_20
from torch import nn

from latentrt.export.checkpoints.parameters.of_config import family_parameters
from latentrt.export.families import EXPORTED_FAMILIES
from latentrt.export.models.reference_model import model_from_config
from latentrt.runtime.autoencoders.autoencoder import Autoencoder
from latentrt.runtime.bundle import ports
from latentrt.runtime.config.families import FAMILIES, config_class, config_from_dict, loaded
from latentrt.runtime.config.model_config import ModelConfig, PassMemory

ROOT = Path(__file__).parents[3]
ROOMS = ("runtime", "export", "integrations", "cli", "tiling")


def family_questions(source: str) -> list[str]:
    """The lines of a module that compare the class of a config or an autoencoder, or look for a config's field."""
    return sorted({f"{node.lineno}: {ast.unparse(node)}" for node in _questions(ast.parse(source))})


def _questions(tree: ast.AST) -> Iterator[ast.expr | ast.pattern]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, classes]) if _names_family(classes):
                yield node
            case ast.Call(func=ast.Name(id="hasattr" | "getattr"), args=[held, ast.Constant(), *_]) if _is_config(held):
                yield node
            case ast.Compare(left=ast.Call(func=ast.Name(id="type")), comparators=[*classes]):
                if any(map(_names_family, classes)):
                    yield node
            case ast.MatchClass(cls=kind) if _names_family(kind):
                yield node


def _names_family(node: ast.AST) -> bool:
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    names |= {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    families = [name for name in names if not name.endswith("Output")]
    return any(name.endswith("Config") or name.startswith("Autoencoder") for name in families)


def _is_config(node: ast.AST) -> bool:
    return (node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")) == "config"


def test_no_module_asks_which_class_a_config_or_an_autoencoder_has() -> None:
    modules = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert len(modules) > 200
    found = {str(path.relative_to(ROOT)): family_questions(path.read_text("utf-8")) for path in modules}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(config, AutoencoderKLConfig)",
        "isinstance(config, (int, ltx2.AutoencoderKLLTX2VideoConfig))",
        "isinstance(vae, AutoencoderKL | int)",
        "isinstance(vae.config, ImageConfig)",
        "type(vae) is AutoencoderKLFlux2",
        "match vae:\n    case AutoencoderKL():\n        pass",
        'getattr(vae.config, "noise_stacks", ())',
        'hasattr(config, "noise_stacks")',
    ],
)
def test_a_question_about_a_class_is_found(source: str) -> None:
    assert len(family_questions(source)) == 1


@pytest.mark.parametrize("source", ["isinstance(value, int)", "getattr(config, name)", 'getattr(tile, "_make", tuple)'])
def test_questions_about_other_types_are_not_found(source: str) -> None:
    assert family_questions(source) == []


def test_both_sides_register_the_same_families() -> None:
    assert FAMILIES.keys() == EXPORTED_FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_of_a_family_stands_where_the_registry_says(family: str) -> None:
    kind: type[Autoencoder] = loaded("latentrt.runtime.autoencoders", FAMILIES[family].autoencoder)
    assert (config_class(family).family, kind.family, kind.__name__) == (family, family, family)
    model: type[nn.Module] = loaded("latentrt.export.models", EXPORTED_FAMILIES[family].model)
    assert model.__name__ == family


@pytest.mark.parametrize("name", ALL)
def test_a_config_answers_for_its_model(name: str) -> None:
    config = config_from_dict(ALL[name])
    parameters = family_parameters(config)
    shapes = {key: tuple(tensor.shape) for key, tensor in model_from_config(config).state_dict().items()}
    assert parameters.shapes(config) == shapes
    assert parameters.statistics.keys() <= shapes.keys()
    assert {shapes[key] for key in parameters.statistics} <= {(config.diffusion_channels,)}
    assert 0 < config.layer_count <= len(shapes)
    assert config.video is not None
    assert (config.causal("encoder") is None) == (not config.video)
    assert [ports.noise_input(stack.block) for stack in config.noise_stacks] == [
        ports.noise_input(block) for block, noisy in enumerate(config.inject_noise) if noisy
    ]
    plain = config.without_conditions()
    assert not plain.timestep_conditioning
    assert plain.noise_stacks == ()


@pytest.mark.parametrize(
    ("values", "component", "memory"),
    [
        (KL_BASE, "decoder", PassMemory(64 * 8**2, 4.0 * 64 * 8**2)),
        (KL_BASE | {"block_out_channels": [64, 64, 64, 64]}, "encoder", PassMemory(64 * 8**2, 3.2 * 64 * 8**2)),
        (KL_BASE | {"block_out_channels": [64], "down_block_types": ["DownEncoderBlock2D"]}
         | {"up_block_types": ["UpDecoderBlock2D"]}, "decoder", PassMemory(64, 256.0)),
        (LTX_20, "decoder", PassMemory(8**2 * 48, 8**2 * 2.3 * 48)),
        (LTX_20 | {"decoder_block_out_channels": [64, 128, 256]}, "decoder", PassMemory(8**2 * 128, 8**2 * 3.0 * 64)),
    ],
)  # fmt: skip
def test_the_activations_of_a_pass_follow_from_the_finest_layers(
    values: dict[str, Any], component: str, memory: PassMemory
) -> None:
    found = config_from_dict(values).pass_memory(component)
    assert found.widest == memory.widest
    assert found.peak == pytest.approx(memory.peak)


def test_only_attention_over_all_cells_has_scores() -> None:
    found = {name: config_from_dict(ALL[name]).attention_channels for name in ("sd", "no_attention", "ltx20")}
    assert found == {"sd": 64, "no_attention": 0, "ltx20": 0}


def test_a_family_without_a_required_answer_cannot_be_made() -> None:
    class Incomplete(ModelConfig):
        family = "Incomplete"

    with pytest.raises(TypeError, match="abstract"):
        Incomplete()  # type: ignore[abstract]


def test_packed_latents_have_channels_of_their_own() -> None:
    flux2, kl = config_from_dict(ALL["flux2"]), config_from_dict(ALL["sd"])
    assert (flux2.packing, flux2.diffusion_channels, flux2.latent_channels) == ((2, 2), 32, 8)
    assert (kl.packing, kl.diffusion_channels, kl.latent_channels) == (None, 4, 4)
    assert (flux2.missing_statistics, kl.missing_statistics) == (("bn_running_mean", "bn_running_var"), ())
