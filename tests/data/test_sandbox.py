import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from data.config import IngestConfig, MediaLimits
from data.ingest import ingest_source, probe_source
from data.records import SourceRecord
from data.sandbox import Reply, Sandbox, probe_file
from data.video import write_mp4
from model.errors import CapacityError, DecodeError

TINY = IngestConfig(buckets=("16x16x4",), fps=4.0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    write_mp4(path, np.random.default_rng(0).integers(0, 255, (600, 64, 64, 3), dtype=np.uint8), 30, crf=30)
    return path


def ingest(sandbox: Sandbox, film: Path, clips_dir: Path) -> Reply:
    arguments = {"source_id": "5" * 64, "config": TINY.model_dump(mode="json"), "clips_dir": str(clips_dir)}
    return sandbox.run("ingest", path=str(film), **arguments)


def test_the_child_gives_what_the_same_call_gives_here(film: Path, tmp_path: Path):
    with Sandbox(MediaLimits()) as sandbox:
        reply = ingest(sandbox, film, tmp_path / "a")
        assert SourceRecord.model_validate(reply.value) == ingest_source(
            film, "5" * 64, TINY, MediaLimits(), tmp_path / "b"
        )
    names = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert names == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}


@pytest.mark.parametrize(
    ("limits", "error_class"),
    [
        ({"max_wall_s": 0.05}, "TimeLimit"),
        ({"max_written_bytes": 100}, "SizeLimit"),
        ({"max_pixels": 100}, "DecodeError"),
    ],
)
def test_a_limit_ends_the_file_and_not_the_helper(film: Path, tmp_path: Path, limits: dict[str, int], error_class: str):
    with Sandbox(MediaLimits.model_validate(limits)) as sandbox:
        for _ in range(2):
            reply = ingest(sandbox, film, tmp_path)
            assert reply.value is None
            assert reply.failure is not None
            assert reply.failure.error_class == error_class
            assert next(iter(limits)) in reply.failure.message


def test_running_out_of_memory_costs_the_file_only(film: Path, tmp_path: Path):
    with Sandbox(MediaLimits(max_address_bytes=1 << 20)) as sandbox:
        for _ in range(2):
            failure = ingest(sandbox, film, tmp_path).failure
            assert failure is not None
            # C code may not survive a failed allocation, and FFmpeg may call it damaged data.
            assert failure.error_class in {"MemoryLimit", "Crash", "DecodeError"}


def test_a_bad_file_says_why_and_the_next_file_works(film: Path, tmp_path: Path):
    text = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    text.write_text("not a film")
    with Sandbox(MediaLimits()) as sandbox:
        failure = ingest(sandbox, text, tmp_path).failure
        assert failure is not None
        assert "is no MP4" in failure.message
        assert "av " in failure.tool_version
        assert sandbox.run("probe", path=str(film)).value == probe_source(film, MediaLimits()).model_dump()


def test_a_helper_that_was_killed_is_reported(film: Path):
    before = set(psutil.Process().children())
    with Sandbox(MediaLimits()) as sandbox:
        assert sandbox.run("probe", path=str(film)).failure is None
        started = set(psutil.Process().children()) - before
        (helper,) = [child for child in started if "data.sandbox_child" in child.cmdline()]
        os.kill(helper.pid, signal.SIGKILL)
        # Without the wait the request may still reach the dying helper's pipe; both ways must end alike.
        os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(CapacityError, match="media helper"):
            sandbox.run("probe", path=str(film))


def test_probe_file_gives_facts_or_the_reason(film: Path, tmp_path: Path):
    facts = probe_file(film)
    assert (facts.width, facts.height, facts.num_frames, facts.fps) == (64, 64, 600, 30.0)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(DecodeError, match="is no MP4"):
        probe_file(tmp_path / "empty.mp4")
