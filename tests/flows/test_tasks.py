"""The task under a real Prefect server: a stage that ran is Completed, a stage that was kept is Cached."""

import time

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from data.config import CurateConfig
from data.workspace import Workspace
from flows.recipes import Recipe, remember
from flows.tasks import run_stages
from model.errors import ConfigError, SourceError


@pytest.fixture
def place(tmp_path, captioned_videos):
    place = Workspace(tmp_path / "run")
    recipe = Recipe(name="run", source=captioned_videos, films=None, captioner=None, curate=CurateConfig(num_workers=0))
    remember(recipe, place)
    return place


@flow(name="probe")
def probe(names, folder, recipe=None):
    """A flow of the named stages; without a recipe the folder's own decides."""
    run_stages(names, recipe, folder)
    return "done"


def states(count):
    """Name and state of all task runs; they reach the server's tables a moment after the run."""
    deadline = time.monotonic() + 20
    with get_client(sync_client=True) as client:
        while len(runs := client.read_task_runs()) < count and time.monotonic() < deadline:
            time.sleep(0.2)
    return sorted((run.name, run.state.name) for run in runs)


def test_a_kept_stage_is_shown_as_cached(prefect_harness, place):
    assert probe(("curate", "caption"), place.root) == "done"
    assert states(2) == [("caption", "Completed"), ("curate", "Completed")]
    probe(("curate", "caption", "captioner"), place.root)
    assert states(4) == [
        ("caption", "Cached"),
        ("caption", "Completed"),
        ("curate", "Cached"),
        ("curate", "Completed"),
    ]


def test_an_error_of_ours_reaches_the_caller_as_it_is(prefect_harness, place, tmp_path):
    with pytest.raises(ConfigError, match=r"holds no recipe\.json"):
        probe(("curate",), tmp_path / "nothing")
    with pytest.raises(SourceError, match="nowhere"):
        probe(("curate",), place.root, Recipe(source=tmp_path / "nowhere", films=None))
