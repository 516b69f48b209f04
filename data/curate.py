"""From a folder of raw video to a catalog of clips: list, ingest each source once, then judge the stored scores."""

import atexit
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray

from data.assemble import Assembly, assemble
from data.atomic import remove_partials
from data.catalog import write_table
from data.cluster import ensure_ray
from data.config import CurateConfig
from data.probe import MediaLimits
from data.records import Failure, RecordStore, SourceRecord
from data.sandbox import Reply, Sandbox
from data.sources import Listing, SourceFile, group_duplicates, list_sources
from data.stage import StageResult
from data.workspace import Workspace
from model.errors import CapacityError, SourceError

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of sources done and the number to do, each time one is done."""


def curate(
    config: CurateConfig, source_dir: Path, workspace: Workspace, *, on_progress: Progress | None = None
) -> StageResult:
    """The catalog's tables `sources`, `clips` and `quarantine`, and the clip files; all sources that can be used.

    A source already ingested with these settings is kept as it is, also one that failed; see `data.quarantine`.

    Raises:
        SourceError: the folder is missing, or nothing in it gives a clip that is kept.
    """
    return curate_again(config, source_dir, workspace, retry=False, on_progress=on_progress)


def curate_again(
    config: CurateConfig,
    source_dir: Path,
    workspace: Workspace,
    *,
    retry: bool,
    on_progress: Progress | None = None,
) -> StageResult:
    """Like `curate`; with `retry`, sources that failed before are tried once more."""
    listing = list_sources(source_dir)
    groups = group_duplicates(listing.files)
    store = record_store(config, workspace)
    workspace.clips.mkdir(parents=True, exist_ok=True)
    remove_partials(workspace.clips)
    jobs = [
        job
        for files in sorted(groups.values(), key=lambda files: (-files[0].num_bytes, files[0].source_id))
        if (job := _job(files[0], store, workspace, retry=retry)) is not None
    ]
    for done, _ in enumerate(_ingest_all(jobs, config, workspace), start=1):
        if on_progress is not None:
            on_progress(done, len(jobs))
    records = {source_id: _loaded(store, source_id) for source_id in groups}
    assembly = assemble(config, listing, groups, records, workspace, retry=retry)
    return _finish(assembly, listing, workspace)


def record_store(config: CurateConfig, workspace: Workspace) -> RecordStore:
    """The per-source records that these settings made."""
    return RecordStore(workspace.catalog / "records", config.ingest.digest)


Job = tuple[str, str, int]
"""A source's id, its path, and which attempt this is."""


def _job(file: SourceFile, store: RecordStore, workspace: Workspace, *, retry: bool) -> Job | None:
    """What is to do for a source; None when its record stands and its clips are on disk."""
    record = store.load(file.source_id)
    if record is None or (record.failure is None and not _has_clips(record, workspace)):
        return file.source_id, str(file.path), 1
    if record.failure is not None and retry:
        return file.source_id, str(file.path), record.failure.attempts + 1
    return None


def _has_clips(record: SourceRecord, workspace: Workspace) -> bool:
    def is_whole(clip_id: str, num_bytes: int) -> bool:
        path = workspace.clips / f"{clip_id}.mp4"
        return path.is_file() and path.stat().st_size == num_bytes

    return all(is_whole(clip.clip_id, clip.num_bytes) for clip in record.clips)


def _loaded(store: RecordStore, source_id: str) -> SourceRecord:
    record = store.load(source_id)
    assert record is not None, "every source has a record once ingest is through"
    return record


def _ingest_all(jobs: list[Job], config: CurateConfig, workspace: Workspace) -> Iterator[str]:
    """Ingests every job and yields source ids as they are done; longest first, so that none straggles."""
    if not jobs:
        return
    if config.num_workers == 0:
        for job in jobs:
            yield ingest_job(job, config, workspace)
        return
    ensure_ray(num_cpus=config.num_workers)
    workspace = Workspace(workspace.root.resolve())  # a worker may stand in another folder
    remote = ray.remote(num_cpus=1)(ingest_job)
    waiting, running = list(reversed(jobs)), []
    while waiting or running:
        while waiting and len(running) < config.num_workers:
            running.append(remote.remote(waiting.pop(), config, workspace))
        ready, running = ray.wait(running)
        yield from ray.get(ready)


def ingest_job(job: Job, config: CurateConfig, workspace: Workspace) -> str:
    """Ingests one source in this process's sandbox and writes its record; the source id back. A Ray task."""
    source_id, path, attempt = job
    arguments = {
        "path": path,
        "source_id": source_id,
        "config": config.ingest.model_dump(mode="json"),
        "clips_dir": str(workspace.clips.resolve()),
    }
    reply = _run(arguments, config.limits.model_dump_json())
    if reply.failure is not None:
        failure = Failure.model_validate({**reply.failure.model_dump(), "attempts": attempt})
        record = SourceRecord(source_id=source_id, failure=failure)
    else:
        record = SourceRecord.model_validate(reply.value)
    record_store(config, workspace).save(record)
    return source_id


def _run(arguments: dict[str, Any], limits_json: str) -> Reply:
    try:
        return _sandbox(limits_json).run("ingest", **arguments)
    except CapacityError:  # the helper was killed, most likely for memory: once more with a fresh one
        _sandbox.cache_clear()
        return _sandbox(limits_json).run("ingest", **arguments)


@functools.lru_cache(maxsize=1)
def _sandbox(limits_json: str) -> Sandbox:
    """One helper for all sources that a worker takes: starting it costs more than a short film."""
    sandbox = Sandbox(MediaLimits.model_validate_json(limits_json))
    atexit.register(sandbox.close)
    return sandbox


def _finish(assembly: Assembly, listing: Listing, workspace: Workspace) -> StageResult:
    tables = {"sources": assembly.sources, "clips": assembly.clips, "quarantine": assembly.quarantine}
    outputs = [write_table(workspace.catalog / f"{name}.parquet", rows) for name, rows in tables.items()]
    for row in assembly.quarantine:
        logger.warning("quarantined %s: %s", row["path"], row["message"])
    if not assembly.num_kept:
        raise SourceError(_nothing_usable(assembly, listing))
    return StageResult(
        digest=assembly.digest,
        outputs=outputs,
        took={"files": len(listing.files) + len(listing.unreadable), "ignored files": listing.num_ignored},
        gave=assembly.figures,
    )


def _nothing_usable(assembly: Assembly, listing: Listing) -> str:
    if not listing.files and not listing.unreadable:
        return f"no video files in the source folder ({listing.num_ignored} other files); give MP4, MOV, MKV, WebM, AVI"
    reasons = "; ".join(f"{row['path']}: {row['message']}" for row in assembly.quarantine[:3])
    funnel = ", ".join(f"{name} {value}" for name, value in assembly.figures.items() if value)
    return f"no usable video in the source folder ({funnel or 'nothing was read'}). {reasons}".rstrip(". ")
