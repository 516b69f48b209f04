"""Content Credentials on every file by every way out: trusted, telling what it was made from, broken by any change."""

import stat
from collections.abc import Iterator
from pathlib import Path

import c2pa
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from data.video import read_frames, write_mp4
from model.errors import ConfigError
from serving.config import ServeConfig
from serving.draft import Draft
from serving.store.storage import FILE_NAMES, MEDIA_TYPES, Variant
from serving.trust.certificates import AUTHORITY, KEY, identity_of, make_identity, own_identity
from serving.trust.provenance import Claim, Ingredient, Notary, inspect
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32", "seed": 7}
VARIANTS: list[Variant] = list(FILE_NAMES)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), np.uint8)
    write_mp4(tmp_path / "film.mp4", frames, 8)
    return tmp_path / "film.mp4"


def test_what_is_downloaded_is_trusted_and_says_how_it_was_made(
    client: TestClient, worker: Worker, config: ServeConfig, tmp_path: Path
) -> None:
    video = client.post("/v1/videos", json=A_VIDEO).json()
    assert worker.run_one()
    authority = client.get("/v1/provenance/authority").content
    assert authority == (config.identity / AUTHORITY).read_bytes()
    for variant in VARIANTS:
        path = tmp_path / FILE_NAMES[variant]
        path.write_bytes(client.get(f"/v1/videos/{video['id']}/content?variant={variant}").content)
        verdict = inspect(path, authority)
        assert (verdict.state, verdict.title, verdict.reasons) == ("Trusted", video["id"], [])
        assert verdict.generation["seed"] == 7
        assert verdict.generation["weights_digest"] == "digest-1"
        assert "a red ball" not in str(verdict.generation)


def test_a_stranger_finds_it_valid_but_has_no_reason_to_trust(film: Path) -> None:
    Notary(make_identity()).sign(film, "video/mp4", Claim("t", {}))
    assert inspect(film, None).state == "Valid"
    assert inspect(film, make_identity().authority).state == "Valid"


def pixels(path: Path) -> np.ndarray:
    """What the file shows."""
    return read_frames(path) if path.suffix == ".mp4" else np.asarray(Image.open(path))


def claim_of(content: bytes, kind: str) -> range:
    """Where the claim lies: the outermost JUMBF box and what wraps it; in an MP4 also the format's name before it."""
    begin = content.index(b"jumb") - 4
    num_before = {".mp4": begin, ".webp": 8, ".jpg": 12}[kind]
    return range(begin - num_before, begin + int.from_bytes(content[begin : begin + 4], "big"))


@pytest.fixture
def signed(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, bytes]:
    """A file of the wanted variant, and the authority that vouches for it."""
    identity = make_identity()
    notary, draw = Notary(identity), np.random.default_rng(2)
    frames = draw.integers(0, 256, (8, 32, 48, 3), np.uint8)
    draft = Draft(tmp_path / "1", len(frames), 8)
    draft.add(frames)
    draft.finish(lambda path, kind: notary.sign(path, kind, Claim("t", {"seed": 1})))
    return tmp_path / "1" / FILE_NAMES[request.param], identity.authority


def flipped(content: bytes, places: np.ndarray, draw: np.random.Generator) -> Iterator[tuple[int, bytes]]:
    """The content with one bit the other way, at each of the places."""
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(draw.integers(8))
        yield int(place), bytes(changed)


@pytest.mark.parametrize("signed", VARIANTS, indirect=True)
def test_each_of_a_hundred_flipped_bits_of_what_is_shown_is_found(signed: tuple[Path, bytes]) -> None:
    path, authority = signed
    content, draw = path.read_bytes(), np.random.default_rng(3)
    assert inspect(path, authority).state == "Trusted"
    outside = np.setdiff1d(np.arange(len(content)), np.array(claim_of(content, path.suffix)))
    for place, changed in flipped(content, draw.choice(outside, 100), draw):
        path.write_bytes(changed)
        assert inspect(path, authority).state != "Trusted", place


@pytest.mark.parametrize("signed", VARIANTS, indirect=True)
def test_a_flipped_bit_of_the_claim_is_found_or_says_nothing(signed: tuple[Path, bytes]) -> None:
    """Claims have room to spare, where a bit says nothing; everywhere else a flip must be found."""
    path, authority = signed
    content, before, shown, draw = path.read_bytes(), inspect(path, authority), pixels(path), np.random.default_rng(4)
    places, num_found = draw.choice(np.array(claim_of(content, path.suffix)), 100), 0
    for place, changed in flipped(content, places, draw):
        path.write_bytes(changed)
        verdict = inspect(path, authority)
        num_found += verdict.state != "Trusted"
        assert verdict.state != "Trusted" or (verdict == before and np.array_equal(pixels(path), shown)), place
    assert num_found > 25


def test_a_chain_of_changes_names_its_ingredients(film: Path, tmp_path: Path) -> None:
    identity = make_identity()
    notary, before = Notary(identity), []
    for depth in range(5):
        path = tmp_path / f"{depth}.mp4"
        path.write_bytes(film.read_bytes())
        notary.sign(path, "video/mp4", Claim(f"video_{depth}", {}, before))
        verdict = inspect(path, identity.authority)
        assert (verdict.state, verdict.ingredients) == ("Trusted", [part.title for part in before])
        before = [Ingredient(f"video_{depth}", path)]
    both = tmp_path / "both.mp4"
    both.write_bytes(film.read_bytes())
    notary.sign(both, "video/mp4", Claim("both", {}, [Ingredient(f"video_{n}", tmp_path / f"{n}.mp4") for n in (0, 4)]))
    assert inspect(both, identity.authority).ingredients == ["video_0", "video_4"]


UPLOAD = Ingredient("upload: video", sha256="ab" * 32)


@pytest.mark.parametrize(
    ("operation", "names", "relation", "first"),
    [
        ("edit", ["video"], "parentOf", "c2pa.opened"),
        ("extend", ["upload"], "parentOf", "c2pa.opened"),
        ("animate", ["upload"], "componentOf", "c2pa.created"),
        ("join", ["video", "upload"], "componentOf", "c2pa.created"),
    ],
)
def test_what_was_changed_is_the_parent_and_what_was_used_a_part(
    film: Path, tmp_path: Path, operation: str, names: list[str], relation: str, first: str
) -> None:
    made, identity = tmp_path / "made.mp4", make_identity()
    made.write_bytes(film.read_bytes())
    parts = [{"video": Ingredient("video_0", film), "upload": UPLOAD}[name] for name in names]
    Notary(identity).sign(made, "video/mp4", Claim("made", {"operation": operation}, parts))
    assert inspect(made, identity.authority).state == "Trusted"
    manifest = c2pa.Reader(made).get_active_manifest()
    assert manifest is not None
    assert {part["title"] for part in manifest["ingredients"]} == {part.title for part in parts}
    assert {part["relationship"] for part in manifest["ingredients"]} == {relation}
    (actions,) = (entry["data"]["actions"] for entry in manifest["assertions"] if "actions" in entry["label"])
    assert actions[0]["action"] == first


def test_copying_the_stream_removes_the_claim(film: Path) -> None:
    assert inspect(film, None).state == "Absent"


def test_an_own_identity_is_made_once_and_kept_secret(tmp_path: Path) -> None:
    first, second = (own_identity(tmp_path / "identity") for _ in range(2))
    assert first == second
    assert stat.S_IMODE((tmp_path / "identity" / KEY).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["identity"]


def test_operators_bring_their_own(config: ServeConfig, tmp_path: Path, film: Path) -> None:
    identity = make_identity()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(identity.chain)
    key.write_bytes(identity.key)
    own = config.model_copy(update={"certificate": chain, "private_key": key})
    Notary(identity_of(own)).sign(film, MEDIA_TYPES["video"], Claim("t", {}))
    assert inspect(film, identity.authority).state == "Trusted"
    with pytest.raises(ConfigError, match="go together"):
        identity_of(own.model_copy(update={"private_key": None}))
    key.write_text("nothing")
    with pytest.raises(ConfigError, match="cannot sign"):
        Notary(identity_of(own))
