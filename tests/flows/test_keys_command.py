"""`skyloom keys`: makes a key that opens the API, lists it without its secret, and ends it."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows.cli import main
from flows.commands.champion import served_place
from flows.commands.served_run import STARTER_RUN, served_run
from serving.api.app import create_app
from serving.config import ServeConfig

Run = tuple[int, str, str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path))
    return served_run(None).root


def keys(capsys: pytest.CaptureFixture[str], *words: str) -> Run:
    code = main(["keys", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def status(place: Path, secret: str) -> int:
    """What the API of the workspace answers to a caller."""
    config = ServeConfig.of_run(place, tracking_uri="unused")
    with TestClient(create_app(config), base_url="http://127.0.0.1") as client:
        return client.get("/v1/videos", headers={"Authorization": f"Bearer {secret}"}).status_code


def test_keys_and_server_mean_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path))
    assert served_run(None).root == tmp_path / STARTER_RUN, "nothing was trained here"
    assert served_place(None) == served_run(None)
    (tmp_path / "demo" / "mlflow").mkdir(parents=True)
    (tmp_path / "demo" / "mlflow" / "mlflow.db").touch()
    assert served_place(None) == served_run(None)
    assert served_run(None).root == tmp_path / "demo"
    assert served_run(tmp_path / "mine").root == tmp_path / "mine"


def test_a_key_from_its_making_to_its_end(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no key yet" in keys(capsys, "list")[1]
    code, made, _ = keys(capsys, "create", "phone", "--days", "30", "--quota.max_active", "2")
    secret, key_id = made.split()[-1], made.split()[0]
    assert code == 0
    assert status(place, secret) == 200
    assert status(place, secret + "x") == 401, "and without one nobody comes in any more"
    listed = keys(capsys, "list")[1]
    assert key_id in listed
    assert "phone" in listed
    assert "live until" in listed
    assert secret not in listed
    assert "refused from now on" in keys(capsys, "revoke", key_id)[1]
    assert status(place, secret) == 401
    assert "revoked" in keys(capsys, "list")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("revoke", "key_unknown"), "no live key"),
        (("create",), "skyloom keys create NAME"),
        (("burn", "it"), "skyloom keys create NAME"),
        (("create", "x", "--days", "-1"), "days"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    code, _, error = keys(capsys, *words)
    assert code == 2
    assert said in error
    assert "Traceback" not in error
