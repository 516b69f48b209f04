"""The JSONL record of a job's steps."""

from pathlib import Path

from training.progress import StepLog, read_steps


def test_steps_that_will_be_done_again_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "x.jsonl"
    log = StepLog(path, 0)
    for step in range(5):
        log.write(step, loss=float(step))
    log.close()
    with path.open("a") as file:
        file.write('{"step": 5, "lo')
    resumed = StepLog(path, 3)
    resumed.write(3, loss=30.0)
    resumed.close()
    assert [(record["step"], record["loss"]) for record in read_steps(path)] == [(0, 0), (1, 1), (2, 2), (3, 30)]


def test_no_record_is_no_error(tmp_path: Path) -> None:
    assert read_steps(tmp_path / "none.jsonl") == []
