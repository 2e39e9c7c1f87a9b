"""The valid models, bundles and files that the cases of all campaigns start from: the demo's."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Material", "make_material"]


@dataclass(frozen=True)
class Material:
    """The demo in a campaign's work folder.

    Attributes:
        work: the work folder.
    """

    work: Path

    @property
    def demo(self) -> Path:
        return self.work / "demo"

    @property
    def image_model(self) -> Path:
        return self.demo / "image_model"

    @property
    def video_model(self) -> Path:
        return self.demo / "video_model"

    @property
    def image_bundle(self) -> Path:
        return self.demo / "image_bundle"

    @property
    def video_bundle(self) -> Path:
        return self.demo / "video_bundle"

    @property
    def picture(self) -> Path:
        return self.demo / "inputs" / "drawn.png"

    @property
    def clip(self) -> Path:
        return self.demo / "inputs" / "clip.mp4"

    @property
    def picture_latents(self) -> Path:
        return self.demo / "latents" / "drawn.safetensors"

    @property
    def clip_latents(self) -> Path:
        return self.demo / "latents" / "clip.safetensors"


def make_material(work: Path) -> Material:
    """Run the demo into the work folder, unless it is there already."""
    material = Material(work)
    if not material.demo.exists():
        from latentrt.export.demo.run import run_demo

        work.mkdir(parents=True, exist_ok=True)
        run_demo(material.demo, lambda line: None)
    return material
