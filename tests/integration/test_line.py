"""The whole line at a tiny size, through the command: from films to a served model and its report."""

import shutil
import time
from fractions import Fraction

import av
import pytest
from mlflow import MlflowClient
from webdataset import WebDataset

from data.workspace import Workspace
from flows.presets import tiny
from flows.stages import STAGES
from model.pipeline import SkyloomPipeline
from training.checkpoint import load_newest
from training.transformer import assemble_pipeline

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def place(home):
    return Workspace(home / "tiny")


@pytest.fixture
def line(place, prefect_api, skyloom):
    """The finished line; made by the first test that asks, kept for the others."""
    if not (place.receipts / "showcase.json").exists():
        found = skyloom("demo", "--preset", "tiny")
        assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    return place


def test_every_stage_left_its_receipt_and_prefect_knows_it(line, prefect_api):
    assert {path.stem for path in line.receipts.glob("*.json")} == set(STAGES)
    assert prefect_api.task_states("line tiny") == dict.fromkeys(STAGES, "Completed")


def test_three_served_videos_have_what_was_asked_for(line):
    paths = sorted(line.videos.glob("*.mp4"))
    found = []
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            assert (stream.codec_context.name, stream.average_rate) == ("h264", Fraction(8))
            found.append((frames[0].width, frames[0].height, len(frames)))
    assert sorted(found) == [(48, 80, 16), (64, 64, 16), (80, 48, 16)]


def test_stock_webdataset_reads_the_shards(line):
    shards = sorted(map(str, line.shards.glob("video-*.tar")))
    samples = list(WebDataset(shards, shardshuffle=False, empty_check=False))
    assert len(samples) > 0
    assert all(sample["mp4"][4:8] == b"ftyp" for sample in samples)


def test_mlflow_knows_the_run_the_version_and_the_alias(line, read_json):
    client = MlflowClient(tracking_uri=line.tracking_uri)
    version = client.get_model_version_by_alias("skyloom", "champion")
    assert version.tags["dataset_id"] == read_json(line.latents / "dataset.json")["dataset_id"]
    assert client.get_run(version.run_id).data.metrics


def test_the_report_shows_the_run(line):
    page = (line.root / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") >= 6
    assert "Quarantine" in page


def test_a_second_run_keeps_every_stage_and_is_quick(line, skyloom):
    began = time.monotonic()
    found = skyloom("demo", "--preset", "tiny")
    assert time.monotonic() - began < 90
    assert found.returncode == 0
    assert found.stdout.count(": kept (") == len(STAGES)


def test_a_prompt_becomes_a_file_without_a_server(line, skyloom, tmp_path):
    path = tmp_path / "out.mp4"
    words = ("generate", "a red ball", "-o", path, "--workspace", line.root, "--seed", "1", "--num_steps", "2")
    found = skyloom(*words)
    assert found.returncode == 0, found.stderr
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 16


def test_another_average_is_served_without_training_again(line, tmp_path):
    place = Workspace(shutil.copytree(line.root, tmp_path / "copy"))
    trained = tiny().transformer
    chosen = trained.model_copy(update={"served_width": 0.07})
    digests = [assemble_pipeline(config, place) for config in (trained, chosen)]
    assert digests[0] == SkyloomPipeline.from_pretrained(line.pipeline).facts.weights_digest
    assert digests[1] != digests[0]
    facts = load_newest(place.checkpoints("transformer")).facts
    assert facts["config"] == chosen.training_digest


def test_the_quarantine_names_the_broken_film(line, skyloom):
    found = skyloom("quarantine", "--workspace", line.root)
    assert found.returncode == 0
    assert "truncated" in found.stdout


def test_a_folder_without_usable_video_is_one_clear_error(line, skyloom, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "text.txt").write_text("a caption")
    found = skyloom("run", "--source", tmp_path, "--name", "unusable", "--curate.num_workers", "0")
    assert found.returncode == 2
    assert "no usable video" in found.stderr
    assert "Traceback" not in found.stdout + found.stderr
