"""`skyloom verify`: says of a file who made it and whether to believe it, and ends with 0 only where it is trusted."""

from pathlib import Path

import numpy as np
import pytest

from data.video import write_mp4
from flows.cli import main
from flows.commands.served_run import served_run
from serving.config import ServeConfig
from serving.trust.certificates import AUTHORITY, make_identity, own_identity
from serving.trust.provenance import Claim, Ingredient, Notary


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video that nobody signed."""
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path))
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), np.uint8)
    write_mp4(tmp_path / "film.mp4", frames, 8)
    return tmp_path / "film.mp4"


def verify(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main(["verify", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_of_the_workspace_s_own_server_it_is_trusted(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ServeConfig.of_run(served_run(None).root, tracking_uri="unused")
    notary = Notary(own_identity(config.identity))
    before = tmp_path / "before.mp4"
    before.write_bytes(film.read_bytes())
    notary.sign(before, "video/mp4", Claim("video_before", {}))
    notary.sign(film, "video/mp4", Claim("video_after", {"seed": 7}, [Ingredient("video_before", before)]))
    code, said = verify(capsys, film)
    assert (code, said.split(":")[0]) == (0, "Trusted")
    for part in ("video_after", "seed", "7", "made from", "video_before"):
        assert part in said
    (tmp_path / "root.pem").write_bytes((config.identity / AUTHORITY).read_bytes())
    assert verify(capsys, film, "--workspace", tmp_path / "other", "--authority", tmp_path / "root.pem")[0] == 0


def test_a_stranger_s_is_only_valid_a_changed_one_is_not_and_a_plain_one_says_nothing(
    film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(capsys, film)[1].startswith("Absent")
    Notary(make_identity()).sign(film, "video/mp4", Claim("t", {}))
    code, said = verify(capsys, film)
    assert (code, said.split(":")[0]) == (1, "Valid")
    content = bytearray(film.read_bytes())
    content[-100] ^= 1
    film.write_bytes(content)
    code, said = verify(capsys, film)
    assert (code, said.split(":")[0]) == (1, "Invalid")


def test_files_that_are_not_there_are_named(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((tmp_path / "none.mp4",), (film, "--authority", tmp_path / "none.pem")):
        code, said = verify(capsys, *words)
        assert code == 2
        assert "none." in said
