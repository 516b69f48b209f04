"""Content Credentials (C2PA): every file that leaves says that a model made it, which one, and from what."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import c2pa

from model.errors import ConfigError
from serving.trust.certificates import Identity

MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
MADE_FROM_OTHERS_TOO = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""What holds or changes an upload: whether that was made by a model, nobody knows."""
GENERATION = "org.skyloom.generation"
CHANGES = ("edit", "extend")
"""The operations whose result is the video that they were given, changed."""
State: TypeAlias = Literal["Trusted", "Valid", "Invalid", "Absent"]


class Ingredient(NamedTuple):
    """A video that another was made from: its file, whose claims go on, or of an upload the SHA-256 alone."""

    title: str
    path: Path | None = None
    sha256: str = ""


class Claim(NamedTuple):
    """What a file says of itself."""

    title: str
    generation: Mapping[str, Any]
    ingredients: Sequence[Ingredient] = ()
    holds_uploads: bool = False
    """Whether anything in it, however many videos ago, came from an upload."""

    @property
    def has_parent(self) -> bool:
        """Whether it is another video changed; otherwise what it was made from are its parts."""
        return len(self.ingredients) == 1 and self.generation.get("operation") in CHANGES


class Verdict(NamedTuple):
    """What a file says of itself, and whether to believe it."""

    state: State
    reasons: Sequence[str] = ()
    title: str = ""
    generation: Mapping[str, Any] = {}
    ingredients: Sequence[str] = ()


class Notary:
    """Signs files in the name of one identity."""

    def __init__(self, identity: Identity) -> None:
        try:
            self._signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo("es256", identity.chain, identity.key, None))
        except c2pa.C2paError as error:
            raise ConfigError(f"cannot sign with this certificate and key: {error}") from error
        # it also judges ingredients when it takes them in
        self._context = _context(identity.authority)

    def sign(self, path: Path, media_type: str, claim: Claim) -> None:
        """Puts the signed claim into a file."""
        described = [(_described(claim, index), part.path) for index, part in enumerate(claim.ingredients)]
        manifest = _manifest(claim) | {"ingredients": [facts for facts, path in described if path is None]}
        builder = c2pa.Builder.from_json(json.dumps(manifest), self._context)
        for facts, ingredient in described:
            if ingredient is not None:
                with ingredient.open("rb") as content:
                    builder.add_ingredient(json.dumps(facts), "video/mp4", content)
        signed = path.with_name(f"{path.name}.signed")
        with path.open("rb") as source, signed.open("w+b") as target:
            builder.sign(self._signer, media_type, source, target)
        signed.replace(path)


def inspect(path: Path, authority: bytes | None) -> Verdict:
    """What a file says of itself; Trusted when the root of `authority` (PEM) vouches for it.

    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is no file")
    try:
        reader = c2pa.Reader.try_create(path, context=_context(authority))
        manifest = reader.get_active_manifest() or {} if reader else {}
    except (c2pa.C2paError, KeyError) as error:  # a KeyError when the claim calls a manifest active that is not there
        return Verdict("Invalid", (str(error),))
    if reader is None:
        return Verdict("Absent")
    results = (reader.get_validation_results() or {}).get("activeManifest", {})
    assertions = {entry["label"]: entry["data"] for entry in manifest.get("assertions", [])}
    return Verdict(
        state=_STATES.get(str(reader.get_validation_state()), "Invalid"),
        reasons=[failure["code"] for failure in results.get("failure", [])],
        title=manifest.get("title", ""),
        generation=assertions.get(GENERATION, {}),
        ingredients=[found.get("title", "") for found in manifest.get("ingredients", [])],
    )


_STATES: dict[str, State] = {"Trusted": "Trusted", "Valid": "Valid"}


def _context(authority: bytes | None) -> c2pa.Context:
    trust = {"trust_anchors": authority.decode()} if authority else {}
    # a picture of the picture inside the claim would double the file
    settings = {"trust": trust, "verify": {"verify_trust": True}, "builder": {"thumbnail": {"enabled": False}}}
    return c2pa.Context(c2pa.Settings.from_dict(settings))


def _manifest(claim: Claim) -> dict[str, Any]:
    return {
        "claim_generator_info": [{"name": "Skyloom", "version": version("skyloom")}],
        "title": claim.title,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": _actions(claim)}},
            {"label": GENERATION, "data": dict(claim.generation)},
        ],
    }


def _described(claim: Claim, index: int) -> dict[str, str]:
    ingredient = claim.ingredients[index]
    facts = {"title": ingredient.title, "relationship": "parentOf" if claim.has_parent else "componentOf"}
    facts["label"] = _labels(claim)[index]
    return facts | ({"instance_id": f"urn:sha256:{ingredient.sha256}"} if ingredient.path is None else {})


def _actions(claim: Claim) -> list[dict[str, Any]]:
    used = {"parameters": {"ingredientIds": _labels(claim)}}
    made = {"digitalSourceType": MADE_FROM_OTHERS_TOO if claim.holds_uploads else MADE_BY_A_MODEL}
    if claim.has_parent:
        return [{"action": "c2pa.opened", **used}, {"action": "c2pa.edited", **made}]
    created = {"action": "c2pa.created", **made}
    return [created, {"action": "c2pa.placed", **used}] if claim.ingredients else [created]


def _labels(claim: Claim) -> list[str]:
    return [f"ingredient-{index}" for index in range(len(claim.ingredients))]
