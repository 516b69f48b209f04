"""What a tabletop shot can show, in words: six attributes, their sentences, and the combinations kept for tests.

A combination that `is_held_out` never occurs in a film, so a model that draws it has composed it.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass

import numpy as np

from model.errors import ConfigError

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SHAPES = ("ball", "cube", "cylinder", "cone")
SIZES = ("small", "large")
MOTIONS = ("slides left", "slides right", "falls", "jumps")
FLOORS = ("white", "dark", "checkered")
CAMERAS = ("stays still", "pans right", "zooms in")

STYLE = "simple 3D animation"
NUM_DENSE_VARIANTS = 3
NUM_SHORT_VARIANTS = 4

_VALUES = (COLOURS, SHAPES, SIZES, MOTIONS, FLOORS, CAMERAS)
_HELD_OUT_ONE_IN = 12
ACTIONS = {
    "slides left": "slides to the left",
    "slides right": "slides to the right",
    "falls": "falls from above",
    "jumps": "jumps up and down",
}
_GERUNDS = {
    "slides left": "sliding left",
    "slides right": "sliding right",
    "falls": "falling",
    "jumps": "jumping",
}
# How many queued combinations `deal` compares for each pick; more balances better and costs more.
_DEAL_WINDOW = 96


@dataclass(frozen=True)
class Attributes:
    """What one shot shows; every field is one of the module's value tuples."""

    colour: str
    shape: str
    size: str
    motion: str
    floor: str
    camera: str

    @property
    def is_held_out(self) -> bool:
        """Whether this combination is kept for tests: a fixed twelfth of them, by hash, the same in every run."""
        digest = hashlib.sha256("|".join(astuple(self)).encode()).digest()
        return int.from_bytes(digest[:8], "big") % _HELD_OUT_ONE_IN == 0


def every_combination() -> list[Attributes]:
    """Each of the 2,304 combinations once, in a fixed order."""
    values = itertools.product(*_VALUES)
    return [Attributes(*combination) for combination in values]


def dense_caption(attributes: Attributes, variant: int = 0) -> str:
    """One sentence that names all six attributes; variants (modulo `NUM_DENSE_VARIANTS`) differ in order only."""
    thing = f"a {attributes.size} {attributes.colour} {attributes.shape} {ACTIONS[attributes.motion]}"
    floor, camera = f"on a {attributes.floor} floor", f"the camera {attributes.camera}"
    sentences = (f"{thing} {floor}, {camera}", f"{thing} {floor} while {camera}", f"{floor}, {thing}, {camera}")
    return sentences[variant % NUM_DENSE_VARIANTS]


def short_caption(attributes: Attributes, variant: int = 0) -> str:
    """A few words with colour, shape and motion; variants modulo `NUM_SHORT_VARIANTS`, the last adds the size."""
    thing = f"{attributes.colour} {attributes.shape}"
    phrases = (
        f"a {thing} {attributes.motion}",
        f"the {thing} {attributes.motion}",
        f"a {thing} is {_GERUNDS[attributes.motion]}",
        f"a {attributes.size} {thing} {attributes.motion}",
    )
    return phrases[variant % NUM_SHORT_VARIANTS]


def structured_caption(attributes: Attributes) -> dict[str, str]:
    """The caption in fields: subject, action, camera, style, text (none on screen), then the attributes as they are."""
    subject = f"{attributes.size} {attributes.colour} {attributes.shape}"
    fields = {"subject": subject, "action": ACTIONS[attributes.motion], "style": STYLE, "text": ""}
    return fields | asdict(attributes)


def deal(num: int, seed: int, *, held_out: bool) -> list[Attributes]:
    """`num` combinations in random order, each attribute's values near balance in every prefix.

    No combination repeats before all were dealt. They are the held-out ones, or all the others.
    """
    pool = [attributes for attributes in every_combination() if attributes.is_held_out == held_out]
    rng = np.random.default_rng([seed, int(held_out)])
    return list(itertools.islice(_balanced(pool, rng), num))


def _balanced(pool: Sequence[Attributes], rng: np.random.Generator) -> Iterator[Attributes]:
    values = [(field, value) for field, values in enumerate(_VALUES) for value in values]
    places = np.array([[values.index(pair) for pair in enumerate(astuple(attributes))] for attributes in pool])
    # A value's weight is the number of values that its attribute has, so that every attribute counts alike.
    weights = np.array([len(_VALUES[field]) for field, _ in values])
    usage = np.zeros(len(values), dtype=np.int64)
    while True:
        queue = rng.permutation(len(pool)).tolist()
        while queue:
            excess = usage[places[queue[:_DEAL_WINDOW]]].sum(axis=1)
            index = queue.pop(int(excess.argmin()))
            usage[places[index]] += weights[places[index]]
            yield pool[index]


def heldout_prompts(num: int, seed: int) -> list[tuple[str, Attributes]]:
    """`num` dense captions with their attributes, of combinations that no film ever shows.

    Raises:
        ConfigError: more are asked than there are.
    """
    num_kept = sum(attributes.is_held_out for attributes in every_combination())
    if num > num_kept:
        raise ConfigError(f"{num} held-out prompts asked, {num_kept} exist; ask for {num_kept} at most")
    return [(dense_caption(attributes), attributes) for attributes in deal(num, seed, held_out=True)]
