"""Short prompts to the dense form that a model was trained on, so that few words still say everything it listens to."""

import hashlib
import re
from collections.abc import Mapping

from data.worlds import captions
from data.worlds.captions import Attributes, dense_caption
from model.errors import ConfigError
from model.expander import AsItIs, Expander, Reading

_WORDS: Mapping[str, Mapping[str, str]] = {
    "colour": {"violet": "purple", "magenta": "pink", "turquoise": "cyan", "golden": "yellow"},
    "shape": {"sphere": "ball", "box": "cube", "block": "cube", "can": "cylinder", "tube": "cylinder"},
    "size": {"tiny": "small", "little": "small", "big": "large", "huge": "large"},
    "floor": {"black": "dark", "checked": "checkered", "chessboard": "checkered"},
    "count": {"2": "two", "both": "two", "pair": "two", "3": "three"},
}
_MOTIONS = (
    (r"\bleft\b", "slides left"),
    (r"\bright\b", "slides right"),
    (r"\b(fall|falls|falling|drop|drops|dropping)\b", "falls"),
    (r"\b(jump|jumps|jumping|hop|hops|hopping|bounce|bounces|bouncing)\b", "jumps"),
)
_CAMERAS = ((r"\bpan\w*", "pans right"), (r"\bzoom\w*", "zooms in"), (r"\b(still|static|fixed)\b", "stays still"))
_VERB = re.compile(r"(^|(?<=[.?!,;] ))can (?=(you|we|i|it|a|an|the|two|three)\b)")
"""Of a question, in which no cylinder is meant."""

_CAMERA_CLAUSE = re.compile(r"\b(the )?camera( \w+){0,2}|\b(pan|zoom)\w*( \w+)?")


_READ = ("camera", "motion", "size", "colour", "shape", "floor")
"""What is read from a video, in this order: a floor shows no more under a camera that is wrong (decision 0021)."""

_READ_ALL = ("camera", "count", "colour", "motion", "shape", "size", "floor", "colour")
"""Where nothing is said of a video; a colour that was read under another shape is read again (decision 0021)."""

_FIRST_GUESS = {name: values[0] for name, values in captions.VALUES.items()}


class Tabletop(Expander):
    """The dense caption of what a prompt names. One that names no object of the tabletop world stays as it is."""

    def __call__(self, prompt: str, like: str = "") -> str:
        """What the prompt leaves open is as in `like`; what that leaves open too, the prompt itself chooses."""
        chosen = _chosen(prompt, like)
        return dense_caption(Attributes(**chosen)) if chosen else prompt

    def is_open(self, prompt: str) -> bool:
        """Whether it leaves out an attribute."""
        return None in attributes_in(prompt).values()

    def reading(self, prompt: str) -> Reading:
        """What the prompt leaves open is asked attribute by attribute, all others as chosen until then."""
        chosen, named = _chosen(prompt) if prompt else dict(_FIRST_GUESS), attributes_in(prompt)
        if not chosen:
            return prompt
        for name in _READ if prompt else _READ_ALL:
            if named[name] is None:
                values = captions.VALUES[name]
                misfits = yield [dense_caption(Attributes(**{**chosen, name: value})) for value in values]
                chosen[name] = min(zip(misfits, values, strict=True))[1]
        return dense_caption(Attributes(**chosen))


tabletop = Tabletop()


def _chosen(prompt: str, like: str = "") -> dict[str, str]:
    """A value for every attribute; nothing where no object is named, or the prompt says nothing of what is known."""
    found, before = attributes_in(prompt), attributes_in(like)
    if not any(found.values()) or not any(named[name] for named in (found, before) for name in ("shape", "colour")):
        return {}
    found["count"] = found["count"] or before["count"] or "one"  # nobody who says "a red ball" wants three
    digest = hashlib.sha256(" ".join((like or prompt).lower().split()).encode()).digest()
    return {
        name: value or before[name] or options[digest[place] % len(options)]
        for place, ((name, value), options) in enumerate(zip(found.items(), captions.VALUES.values(), strict=True))
    }


def attributes_in(prompt: str) -> dict[str, str | None]:
    """What a prompt names of each attribute of the tabletop world."""
    text = _VERB.sub("", " ".join(prompt.lower().split()))
    camera = " ".join(match.group() for match in _CAMERA_CLAUSE.finditer(text))
    rest = _CAMERA_CLAUSE.sub(" ", text)
    return {
        "colour": _named("colour", captions.COLOURS, rest),
        "shape": _named("shape", captions.SHAPES, rest),
        "size": _named("size", captions.SIZES, rest),
        "motion": _matched(_MOTIONS, rest),
        "floor": _named("floor", captions.FLOORS, rest),
        "camera": _matched(_CAMERAS, camera),
        "count": _named("count", captions.COUNTS, rest),
    }


EXPANDERS: Mapping[str, Expander] = {"": AsItIs(), "tabletop": tabletop}
"""By the name that a model's facts give."""


def expander(name: str) -> Expander:
    """The rules that a model's facts name.

    Raises:
        ConfigError: there are none of that name.
    """
    if name not in EXPANDERS:
        raise ConfigError(f"there is no prompt expander {name!r}; there are {', '.join(filter(None, EXPANDERS))}")
    return EXPANDERS[name]


def _named(kind: str, values: tuple[str, ...], text: str) -> str | None:
    """The first value, or synonym of one, that the text names; shapes in the plural too."""
    words = {value: value for value in values} | dict(_WORDS[kind])
    plural = "(?:e?s)?" if kind == "shape" else ""
    match = re.search(rf"\b({'|'.join(words)}){plural}\b", text)
    return words[match.group(1)] if match else None


def _matched(rules: tuple[tuple[str, str], ...], text: str) -> str | None:
    """The value of the first rule whose pattern the text holds."""
    return next((value for pattern, value in rules if re.search(pattern, text)), None)
