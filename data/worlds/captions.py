"""What a tabletop shot can show, in words: its attributes, their sentences, and the combinations kept for tests.

A combination that `is_held_out` never occurs in a film, in any number, so a model that draws it has composed it.
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
COUNTS = ("one", "two", "three")

STYLE = "simple 3D animation"
NUM_DENSE_VARIANTS = 3
NUM_SHORT_VARIANTS = 4

VALUES: dict[str, tuple[str, ...]] = {
    "colour": COLOURS,
    "shape": SHAPES,
    "size": SIZES,
    "motion": MOTIONS,
    "floor": FLOORS,
    "camera": CAMERAS,
    "count": COUNTS,
}
"""What each attribute can be, in the order of the fields of `Attributes`."""

_HELD_OUT_ONE_IN = 12
_ACTIONS = {
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
# How many queued combinations `deal` compares for each pick, for each count; more balances better and costs more.
_DEAL_WINDOW = 96


@dataclass(frozen=True)
class Attributes:
    """What one shot shows; every field is one of the module's value tuples. Several objects are alike in all else."""

    colour: str
    shape: str
    size: str
    motion: str
    floor: str
    camera: str
    count: str = "one"

    @property
    def is_held_out(self) -> bool:
        """Whether this combination is kept for tests: a fixed twelfth of them, by hash, whatever the count."""
        digest = hashlib.sha256("|".join(astuple(self)[:-1]).encode()).digest()
        return int.from_bytes(digest[:8], "big") % _HELD_OUT_ONE_IN == 0

    @property
    def action(self) -> str:
        """What it does, as a caption says it, with the verb in the number of the objects."""
        words = _ACTIONS[self.motion]
        if self.count == "one":
            return words
        verb, rest = words.split(" ", 1)
        return f"{verb.removesuffix('s')} {rest}"

    @property
    def subject(self) -> str:
        """The object or objects, without an article: "small red ball", "two small red balls"."""
        thing = f"{self.size} {self.colour} {self.shape}"
        return thing if self.count == "one" else f"{self.count} {thing}s"


def every_combination(max_count: int = 1) -> list[Attributes]:
    """Each of the 2,304 combinations once for every count up to `max_count`, in a fixed order."""
    values = itertools.product(*VALUES.values())
    return [Attributes(*combination) for combination in values if combination[-1] in COUNTS[:max_count]]


def dense_caption(attributes: Attributes, variant: int = 0) -> str:
    """One sentence that names all attributes; variants (modulo `NUM_DENSE_VARIANTS`) differ in order only."""
    thing = f"{_counted(attributes, attributes.subject)} {attributes.action}"
    floor, camera = f"on a {attributes.floor} floor", f"the camera {attributes.camera}"
    sentences = (f"{thing} {floor}, {camera}", f"{thing} {floor} while {camera}", f"{floor}, {thing}, {camera}")
    return sentences[variant % NUM_DENSE_VARIANTS]


def short_caption(attributes: Attributes, variant: int = 0) -> str:
    """A few words with colour, shape and motion; variants modulo `NUM_SHORT_VARIANTS`, the last adds the size."""
    is_one = attributes.count == "one"
    number, be = ("", "is") if is_one else (f"{attributes.count} ", "are")
    thing = f"{attributes.colour} {attributes.shape}" + ("" if is_one else "s")
    verb, *way = attributes.motion.split(" ")
    does = " ".join([verb if is_one else verb.removesuffix("s"), *way])
    phrases = (
        f"{_counted(attributes, number + thing)} {does}",
        f"the {number}{thing} {does}",
        f"{_counted(attributes, number + thing)} {be} {_GERUNDS[attributes.motion]}",
        f"{_counted(attributes, f'{number}{attributes.size} {thing}')} {does}",
    )
    return phrases[variant % NUM_SHORT_VARIANTS]


def _counted(attributes: Attributes, thing: str) -> str:
    """One thing gets its article; several are counted already."""
    return f"a {thing}" if attributes.count == "one" else thing


def structured_caption(attributes: Attributes) -> dict[str, str]:
    """The caption in fields: subject, action, camera, style, text (none on screen), then the attributes as they are."""
    fields = {"subject": attributes.subject, "action": attributes.action, "style": STYLE, "text": ""}
    return fields | asdict(attributes)


def deal(num: int, seed: int, *, held_out: bool, max_count: int = 1) -> list[Attributes]:
    """`num` combinations in random order, each attribute's values near balance in every prefix.

    No combination repeats before all were dealt. They are the held-out ones, or all the others.
    """
    pool = [attributes for attributes in every_combination(max_count) if attributes.is_held_out == held_out]
    rng = np.random.default_rng([seed, int(held_out)])
    return list(itertools.islice(_balanced(pool, rng, max_count * _DEAL_WINDOW), num))


def _balanced(pool: Sequence[Attributes], rng: np.random.Generator, window: int) -> Iterator[Attributes]:
    values = [(field, value) for field, values in enumerate(VALUES.values()) for value in values]
    places = np.array([[values.index(pair) for pair in enumerate(astuple(attributes))] for attributes in pool])
    # A value's weight is the number of values that its attribute has, so that every attribute counts alike.
    num_values = [len(options) for options in VALUES.values()]
    weights = np.array([num_values[field] for field, _ in values])
    usage = np.zeros(len(values), dtype=np.int64)
    while True:
        queue = rng.permutation(len(pool)).tolist()
        while queue:
            excess = usage[places[queue[:window]]].sum(axis=1)
            index = queue.pop(int(excess.argmin()))
            usage[places[index]] += weights[places[index]]
            yield pool[index]


def num_held_out(max_count: int = 1) -> int:
    """How many combinations no film ever shows."""
    return sum(attributes.is_held_out for attributes in every_combination(max_count))


def heldout_prompts(num: int, seed: int, max_count: int = 1) -> list[tuple[str, Attributes]]:
    """`num` dense captions with their attributes, of combinations that no film ever shows.

    Raises:
        ConfigError: more are asked than there are.
    """
    num_kept = num_held_out(max_count)
    if num > num_kept:
        raise ConfigError(f"{num} held-out prompts asked, {num_kept} exist; ask for {num_kept} at most")
    return [
        (dense_caption(attributes), attributes) for attributes in deal(num, seed, held_out=True, max_count=max_count)
    ]
