"""The freely licensed photographs that scikit-image and scikit-learn ship inside their wheels (see DATA.md)."""

import numpy as np
import skimage.data
import sklearn.datasets
from PIL import Image

# Name of the picture -> how often training draws it, relative to the others.
TRAINING = {
    "astronaut": 2.0,
    "coffee": 2.0,
    "china": 4.0,
    "rocket": 1.5,
    "hubble_deep_field": 0.8,
    "retina": 0.4,
    "camera": 1.0,
    "brick": 0.6,
    "grass": 0.6,
    "gravel": 0.6,
    "coins": 0.4,
    "clock": 0.4,
}
HELD_OUT = ("chelsea", "flower")  # never seen in training


def photograph(name: str) -> np.ndarray:
    """Return a photograph as uint8 (H, W, 3). Grey photographs are repeated over the three channels."""
    if name in {"china", "flower"}:
        picture = sklearn.datasets.load_sample_image(f"{name}.jpg")
    else:
        picture = getattr(skimage.data, name)()
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return np.ascontiguousarray(picture[..., :3])


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """Resize the centre square of a picture, uint8 (H, W, 3), to uint8 (size, size, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    box = (left, top, left + side, top + side)
    resized = Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS, box=box)
    return np.asarray(resized)
