"""Uses of the public API as a user writes them. mypy checks this file; no test runs it."""

from pathlib import Path
from typing import assert_type

import latentrt
from latentrt.export import (
    BuildSettings,
    BuiltEngine,
    ConversionReport,
    ConvertSettings,
    ExportSettings,
    Extent,
    ParityReport,
    SourceOptions,
    VerifySettings,
    build_engines,
    convert_checkpoint,
    export_bundle,
    verify_bundle,
)
from latentrt.runtime import (
    AutoencoderKL,
    AutoencoderKLLTX2Video,
    AutoencoderKLOutput,
    DecoderOutput,
    EncodedFile,
    LatentsFile,
    decode_file,
    encode_file,
    open_bundle,
    read_latents,
    write_latents,
)

__all__: list[str] = []


def use(*values: object) -> None:
    """Takes what a user would print."""


def a_checkpoint_becomes_a_verified_bundle() -> None:
    """Paths may be texts; settings are values."""
    settings = ExportSettings(dtypes=("float32", "float16"), source=SourceOptions(subfolder="vae"))
    manifest = export_bundle("checkpoint", "bundle", settings, lambda step, done, total: use(step, done, total))
    use(manifest.family, manifest.digest)
    report = verify_bundle("bundle", "checkpoint", VerifySettings(samples=(Path("a.png"),), backend="onnxruntime"))
    assert_type(report, ParityReport)
    use(report.passed, report.worst_psnr_db, [row.psnr_db for row in report.comparisons])
    built = build_engines("bundle", BuildSettings("tensorrt-rtx", tiles=(Extent(1, 512, 512),), dtypes=("float16",)))
    assert_type(built, tuple[BuiltEngine, ...])
    use([(one.record.file, one.fresh) for one in built])
    converted = convert_checkpoint(Path("checkpoint"), "folder", ConvertSettings({"scaling_factor": 0.18215}))
    assert_type(converted, ConversionReport)
    use(converted.tensors, converted.config.family)


def files_become_latents_and_back() -> None:
    """From file to file, and latents files by themselves."""
    with open_bundle("bundle", backend="openvino", dtype="bfloat16", threads=4) as vae:
        encoded = encode_file(vae, "photo.png", "latents.safetensors", seed=7)
        assert_type(encoded, EncodedFile)
        use(encoded.latents.shape)
        use(decode_file(vae, "latents.safetensors", Path("photo.png"), overwrite=True)["shape"])
    content = read_latents("latents.safetensors")
    assert_type(content, LatentsFile)
    write_latents("copy.safetensors", content)


def arrays_become_latents_and_back(x: object) -> None:
    """An image model by its own class."""
    with AutoencoderKL.from_pretrained("bundle", backend="onnxruntime", provider="cpu") as vae:
        vae.enable_tiling(tile_sample_min_height=512, tile_sample_min_width=512, blend="diffusers")
        encoded = vae.encode(x)
        assert_type(encoded, AutoencoderKLOutput)
        decoded = vae.decode(encoded.latent_dist.mode(), output="uint8")
        assert_type(decoded, DecoderOutput)
        use(decoded.sample.shape, decoded.exact)


def any_bundle_has_the_calls_of_video_models(z: object) -> None:
    """What `open_bundle` gives, whose family only the bundle knows."""
    with open_bundle("bundle") as vae:
        vae.enable_tiling(tile_sample_min_height=512, tile_sample_min_width=512, tile_sample_stride_height=384)
        vae.enable_streaming()
        for frames in vae.decode_stream(z, 8, output="uint8"):
            use(frames.shape)
        for moments in vae.encode_stream(z):
            use(moments.shape)
        if isinstance(vae, AutoencoderKLLTX2Video):
            vae.enable_tiling(tile_sample_min_num_frames=80, blend="ltx2")
        if isinstance(vae, AutoencoderKL):
            vae.enable_tiling(exact=True, strip=256)


def the_root_has_the_errors() -> None:
    """`latentrt` alone opens a bundle."""
    try:
        latentrt.open_bundle("bundle").close()
    except latentrt.BundleError as error:
        use(error, latentrt.__version__)
