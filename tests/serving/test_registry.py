"""Aliases, versions and folders in a real MLflow store, without touching MLflow's global settings."""

import shutil
import socket
from pathlib import Path

import mlflow
import pytest

from model.errors import RegistryError
from serving.loader import load_model
from serving.registry import ModelRegistry


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


def test_vanished_artifacts_are_reported(store) -> None:
    store.register("vanished")
    registry = ModelRegistry(store.uri)
    found = registry.resolve("vanished", "champion")
    shutil.rmtree(registry.fetch(found))
    with pytest.raises(RegistryError, match="register it again"):
        registry.fetch(found)


@pytest.mark.parametrize("scheme", ["http", "HTTP", "https", "ftp", "sftp"])
def test_artifacts_at_an_address_are_not_fetched(store, scheme: str) -> None:
    """S4: who can register a version must not make the server call where they like."""
    with socket.create_server(("127.0.0.1", 0)) as canary:
        address = f"{scheme}://127.0.0.1:{canary.getsockname()[1]}/model"
        name = f"addressed-{scheme}"
        store.client.create_registered_model(name)
        made = store.client.create_model_version(name, source=address)
        store.client.set_registered_model_alias(name, "champion", made.version)
        registry = ModelRegistry(store.uri)
        with pytest.raises(RegistryError, match="no address is fetched"):
            registry.fetch(registry.resolve(name, "champion"))
        canary.settimeout(0.2)
        with pytest.raises(TimeoutError):
            canary.accept()
