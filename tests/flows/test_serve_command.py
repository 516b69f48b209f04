"""`skyloom serve`: a flag for each option, and the starter where nothing was trained."""

from pathlib import Path

import pytest

from flows.commands import champion
from flows.commands.champion import served_place
from flows.commands.flags import read_flags
from flows.commands.serve import ServeFlags, _serving
from flows.commands.served_run import has_registry
from model.errors import RegistryError
from model.tiny import save_tiny_pipeline
from serving.config import ServeOptions
from serving.registry import ModelRegistry


def test_each_option_of_the_server_is_a_flag() -> None:
    assert set(ServeFlags.model_fields) == set(ServeOptions.model_fields) | {"workspace"}
    words = ["--visible_mark", "made here", "--max_batch", "8", "--webhook_hosts", "a.example", "--frame_check", "off"]
    flags = read_flags(ServeFlags, "serve", words)
    assert (flags.visible_mark, flags.max_batch, flags.webhook_hosts) == ("made here", 8, ("a.example",))


def test_files_that_options_name_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path))
    flags = read_flags(ServeFlags, "serve", ["--word_rules", "rules.txt"])
    config = _serving(champion.workspace(None, "demo"), flags.model_dump(exclude={"workspace"}))
    assert config.word_rules == tmp_path / "rules.txt"


def test_the_starter_is_served_where_nothing_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path))
    monkeypatch.setattr(champion, "STARTER", tmp_path / "weights")
    save_tiny_pipeline(tmp_path / "weights")
    place = served_place(None)
    registry = ModelRegistry(place.tracking_uri)
    found = registry.resolve("skyloom", "champion")
    assert (registry.fetch(found) / "skyloom.json").read_bytes() == (tmp_path / "weights/skyloom.json").read_bytes()
    assert registry.resolve("skyloom", "champion") == ModelRegistry(served_place(None).tracking_uri).resolve(
        "skyloom", "champion"
    )


def test_a_run_that_is_named_is_not_replaced_by_the_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path))
    with pytest.raises(RegistryError, match="holds no model yet"):
        served_place(tmp_path / "mine")
    assert not has_registry(champion.workspace(None, "starter-served"))
