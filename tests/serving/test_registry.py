"""Aliases, versions and folders in a real MLflow store, without touching MLflow's global settings."""

import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException

from model.errors import RegistryAwayError, RegistryError
from serving.loader import load_model
from serving.registry import ModelRegistry, is_in_store


def test_the_alias_leads_to_a_model_in_memory(store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before = mlflow.get_tracking_uri()
    version, registry = store.register("led"), ModelRegistry(store.uri)
    found = registry.resolve("led", "champion")
    assert (found.version, found.dataset_id) == (version, "d")
    loaded = load_model(found, registry.fetch(found))
    assert loaded.facts.weights_digest == found.weights_digest
    assert (loaded.facts.fps, loaded.facts.frame_step, loaded.facts.width_step) == (8, 4, 16)
    assert (loaded.facts.default_size, loaded.facts.default_seconds) == ("64x64", "2")
    assert mlflow.get_tracking_uri() == before
    assert list(elsewhere.iterdir()) == []  # MLflow's global store would have appeared here


def test_the_alias_moves(store) -> None:
    registry, first = ModelRegistry(store.uri), store.register("moved")
    assert registry.resolve("moved", "champion").version == first
    second = store.register("moved", seed=1)
    assert registry.resolve("moved", "champion").version == second != first


@pytest.mark.parametrize(("name", "alias"), [("known", "nobody"), ("nothing", "champion")])
def test_an_unknown_name_or_alias_comes_with_advice(store, name: str, alias: str) -> None:
    if name == "known":
        store.register(name)
    with pytest.raises(RegistryError, match=f"models:/{name}@{alias}.*register"):
        ModelRegistry(store.uri).resolve(name, alias)


def test_weights_other_than_those_registered_are_refused(store) -> None:
    store.register("forged", digest="0" * 64)
    registry = ModelRegistry(store.uri)
    found = registry.resolve("forged", "champion")
    with pytest.raises(RegistryError, match="registered with weights 000000000000"):
        load_model(found, registry.fetch(found))


def test_a_copy_of_what_lies_elsewhere_goes_when_it_is_loaded(store, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*, artifact_uri: str, tracking_uri: str, dst_path: str | None) -> str:
        assert dst_path is not None
        (Path(dst_path) / "skyloom.json").write_text(artifact_uri)
        return dst_path

    store.register("elsewhere")
    registry = ModelRegistry(store.uri)
    found = registry.resolve("elsewhere", "champion")
    assert registry.fetch(found).is_relative_to(store.root), "what is here is not copied"
    registry.clear(found)
    assert registry.fetch(found).is_dir()
    monkeypatch.setattr(registry, "_address", lambda model: "mlflow-artifacts:/1/models")
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
    folders = [registry.fetch(found) for _ in range(3)]
    assert len(set(folders)) == 1
    with ThreadPoolExecutor(1) as other:
        elsewhere = other.submit(registry.fetch, found).result()
        other.submit(registry.clear, found).result()
    assert not elsewhere.exists()
    assert (folders[0] / "skyloom.json").is_file(), "another thread has its own"
    registry.clear(found)
    assert not folders[0].exists()


def test_a_store_that_does_not_answer_is_told_from_one_that_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        registry = ModelRegistry(f"http://127.0.0.1:{unused.getsockname()[1]}")
        for ask in (lambda: registry.resolve("m", "champion"), lambda: registry.versions("m")):
            with pytest.raises(RegistryAwayError):
                ask()


def _http_error(status: int) -> requests.HTTPError:
    reply = requests.Response()
    reply.status_code = status
    return requests.HTTPError(f"{status} Error", response=reply)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MlflowException("404 Client Error: NOT FOUND for url: http://mlflow/x"), RegistryError),
        (MlflowException("Max retries exceeded"), RegistryAwayError),
        (_http_error(404), RegistryError),
        (_http_error(503), RegistryAwayError),
        (requests.ConnectionError("refused"), RegistryAwayError),
        (requests.Timeout("slow"), RegistryAwayError),
        (FileNotFoundError("no such file"), RegistryError),
    ],
)
def test_what_is_missing_is_told_from_what_does_not_answer(
    store, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[RegistryError]
) -> None:
    def fail(**_: object) -> str:
        raise error

    if "troubled" not in store._names:
        store.register("troubled")
    registry = ModelRegistry(store.uri)
    found = registry.resolve("troubled", "champion")
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fail)
    with pytest.raises(RegistryError) as caught:
        registry.fetch(found)
    assert type(caught.value) is kind


def test_vanished_artifacts_are_reported(store) -> None:
    store.register("vanished")
    registry = ModelRegistry(store.uri)
    found = registry.resolve("vanished", "champion")
    shutil.rmtree(registry.fetch(found))
    with pytest.raises(RegistryError, match="register it again"):
        registry.fetch(found)


HOSTS = (
    "127.0.0.1", "localhost", "127.1", "0x7f000001", "0x7f.0.0.1", "2130706433", "017700000001", "0177.0.0.1", "[::1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "0.0.0.0", "0", "user:word@127.0.0.1", "127.0.0.1.",
    "localtest.me",
)  # fmt: skip
SCHEMES = ("http", "HTTP", "https", "ftp", "sftp", "s3", "gs", "hdfs", "mlflow-artifacts", "dbfs", "wasbs", "abfss")


def test_artifacts_at_an_address_are_not_fetched(store) -> None:
    """S4: who can register a version must not make the server call where they like."""
    with socket.create_server(("127.0.0.1", 0)) as canary:
        port = canary.getsockname()[1]
        addresses = [f"{scheme}://{host}:{port}/model" for scheme in SCHEMES[:4] for host in HOSTS]
        addresses += [f"{scheme}://127.0.0.1:{port}/model" for scheme in SCHEMES[4:]]
        addresses += [f"file://127.0.0.1:{port}/model", f"//127.0.0.1:{port}/model", f"http:/\\\\127.0.0.1:{port}/m"]
        store.client.create_registered_model("addressed")
        registry, taken = ModelRegistry(store.uri), 0
        for address in addresses:
            try:
                made = store.client.create_model_version("addressed", source=address)
            except MlflowException:
                continue
            taken += 1
            store.client.set_registered_model_alias("addressed", "champion", made.version)
            with pytest.raises(RegistryError, match="no such address is fetched"):
                registry.fetch(registry.resolve("addressed", "champion"))
        assert taken >= 40, "what MLflow itself refuses to register proves nothing of us"
        canary.settimeout(0.2)
        with pytest.raises(TimeoutError):
            canary.accept()


@pytest.mark.parametrize(
    ("address", "is_in"),
    [
        ("/srv/mlruns/1/model", True),
        ("file:///srv/mlruns/1/model", True),
        ("mlflow-artifacts:/1/model", True),
        ("mlflow-artifacts://mlflow:5000/1/model", True),
        ("mlflow-artifacts://elsewhere:5000/1/model", False),
        ("s3://models/skyloom/1", True),
        ("s3://models", False),
        ("s3://models-of-others/skyloom/1", False),
        ("s3://models/../other/1", False),
        ("file://elsewhere/share/1", False),
        ("http://[broken/1", False),
    ],
)
def test_what_counts_as_the_store(address: str, is_in: bool) -> None:
    assert is_in_store(address, "http://mlflow:5000", ["s3://models"]) is is_in
