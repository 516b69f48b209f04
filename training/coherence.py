"""Whether one object stays one object: connected components of the asked colour, frame by frame.

Attribute accuracy flatters a model whose objects break and re-form; this does not.
"""

import colorsys

import cv2
import numpy as np

MINIMUM_SATURATION, MINIMUM_VALUE = 0.35, 0.2
SPECK_SHARE = 1e-3
"""Components below this share of the picture (4 pixels of 64 x 64) are compression noise and do not count."""


def palette_hues(palette: dict[str, tuple[float, float, float]]) -> dict[str, float]:
    """The hue in [0, 1) of each named colour, from RGB in [0, 1]."""
    return {name: colorsys.rgb_to_hsv(*rgb)[0] for name, rgb in palette.items()}


def colour_mask(frame: np.ndarray, colour: str, hues: dict[str, float]) -> np.ndarray:
    """Where a frame (uint8 `H W 3`) shows a saturated colour that the palette calls `colour`; bool `H W`."""
    hsv = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hue = hsv[..., 0] / 360
    distances = np.stack([np.abs((hue - value + 0.5) % 1 - 0.5) for value in hues.values()])
    nearest = np.array(list(hues))[distances.argmin(axis=0)]
    return (nearest == colour) & (hsv[..., 1] >= MINIMUM_SATURATION) & (hsv[..., 2] >= MINIMUM_VALUE)


def num_components(frame: np.ndarray, colour: str, hues: dict[str, float]) -> int:
    """How many separate patches of a colour a frame shows, specks left out."""
    mask = colour_mask(frame, colour, hues).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return int((stats[1:, cv2.CC_STAT_AREA] >= SPECK_SHARE * mask.size).sum())


def one_object_share(clips: list[np.ndarray], colours: list[str], hues: dict[str, float]) -> float:
    """The share of all frames that show exactly one patch of their clip's colour."""
    counts = [
        num_components(frame, colour, hues) for clip, colour in zip(clips, colours, strict=True) for frame in clip
    ]
    return float(np.mean([count == 1 for count in counts]))
