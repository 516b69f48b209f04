"""Whether one object stays one object: connected components and outline of the asked colour, frame by frame.

Attribute accuracy flatters a model whose objects break and re-form; these do not.
"""

import colorsys
import itertools

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


def outline_change(clip: np.ndarray, colour: str, hues: dict[str, float]) -> float:
    """How much the outline of a colour changes from frame to frame, moved onto each other: 1 - IoU, mean over frames.

    NaN for a clip with fewer than two neighbouring frames that show the colour.
    """
    masks = [colour_mask(frame, colour, hues) for frame in clip]
    changes = [
        1 - _overlap(_centred(before), _centred(after))
        for before, after in itertools.pairwise(masks)
        if before.any() and after.any()
    ]
    return float(np.mean(changes)) if changes else float("nan")


def _centred(mask: np.ndarray) -> np.ndarray:
    """The mask with its centroid in the middle of a picture of twice the size."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    centred = np.zeros((2 * height, 2 * width), dtype=bool)
    centred[rows + int(height - rows.mean() + 0.5), columns + int(width - columns.mean() + 0.5)] = True
    return centred


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


def one_object_share(clips: list[np.ndarray], colours: list[str], hues: dict[str, float]) -> float:
    """The share of all frames that show exactly one patch of their clip's colour."""
    counts = [
        num_components(frame, colour, hues) for clip, colour in zip(clips, colours, strict=True) for frame in clip
    ]
    return float(np.mean([count == 1 for count in counts]))
