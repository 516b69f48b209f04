"""Captions for every kept clip: text beside the video first, a captioner for the rest, nothing made twice."""

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from data.caption_backends import CaptionBackend, load_backend
from data.caption_records import Caption, CaptionJournal, captions_path, sidecar_caption
from data.catalog import read_table, write_table
from data.config import CaptionConfig
from data.stage import StageResult
from data.workspace import Workspace
from model.captioner import CaptionText
from model.config import digest_of
from model.errors import SourceError, StageError

logger = logging.getLogger(__name__)


def caption_clips(config: CaptionConfig, workspace: Workspace) -> StageResult:
    """Writes captions.parquet, one row per kept clip: its sidecar text if it has some, else the backend's.

    What a backend made is kept by its digest, so a second run, a killed run and a return to an earlier
    backend caption only the clips that this backend has not captioned yet.

    Raises:
        SourceError: curation kept no clip.
        StageError: the backend fails, or leaves more clips without a caption than `max_failed_share` allows.
    """
    began_s = time.monotonic()
    kept = [clip for clip in read_table(workspace.catalog / "clips.parquet") if clip["status"] == "kept"]
    if not kept:
        raise SourceError(f"{workspace.catalog} lists no kept clip; run curation, or loosen its thresholds")
    captions = {clip["clip_id"]: caption for clip in kept if (caption := sidecar_caption(clip))}
    bare = sorted((clip for clip in kept if clip["clip_id"] not in captions), key=lambda clip: clip["clip_id"])
    num_made = 0
    if bare:
        made, num_made = _caption_bare(config, workspace, bare)
        captions |= made
    missing = len(kept) - len(captions)
    if missing > config.max_failed_share * len(kept):
        raise StageError(
            f"{missing} of {len(kept)} clips got no caption (max_failed_share={config.max_failed_share}); "
            "repair what the warnings name, or choose another backend, and run again"
        )
    rows = [captions[clip_id] for clip_id in sorted(captions)]
    write_table(captions_path(workspace), [asdict(row) for row in rows])
    seconds = time.monotonic() - began_s
    return StageResult(
        digest=digest_of([asdict(row) for row in rows]),
        outputs=[captions_path(workspace)],
        took={"clips": len(kept)},
        gave={
            "clips": len(rows),
            "captioned_now": num_made,
            "uncaptioned": missing,
            "seconds": round(seconds, 3),
            "clips_per_s": round(num_made / seconds, 2),
            **{f"origin_{origin}": count for origin, count in sorted(Counter(row.origin for row in rows).items())},
        },
    )


def _caption_bare(
    config: CaptionConfig, workspace: Workspace, clips: Sequence[dict[str, Any]]
) -> tuple[dict[str, Caption], int]:
    backend = load_backend(config.backend, workspace)
    journal = CaptionJournal(workspace, backend.digest)
    captions = journal.read()
    missing = [clip for clip in clips if clip["clip_id"] not in captions]
    num_before = len(captions)
    for start in range(0, len(missing), config.batch_size):
        batch = missing[start : start + config.batch_size]
        made = caption_batch(backend, config.backend.kind, batch, workspace)
        journal.append(made)
        captions |= {caption.clip_id: caption for caption in made}
        logger.info("captioned %d of %d clips", start + len(batch), len(missing))
    wanted = {clip["clip_id"] for clip in clips}
    return {clip_id: captions[clip_id] for clip_id in captions if clip_id in wanted}, len(captions) - num_before


def caption_batch(
    backend: CaptionBackend, origin: str, clips: Sequence[dict[str, Any]], workspace: Workspace
) -> list[Caption]:
    """The captions of one batch; a clip that the backend could not caption is left out.

    Raises:
        StageError: the backend gives another number of captions than it got clips.
    """
    texts = backend.caption([workspace.root / clip["path"] for clip in clips])
    if len(texts) != len(clips):
        raise StageError(
            f"the {origin} backend gave {len(texts)} captions for {len(clips)} clips; it must give one each"
        )
    pairs = list(zip(clips, texts, strict=True))
    for clip, text in pairs:
        if not text.dense.strip():
            logger.warning("clip %s got an empty caption from the %s backend", clip["clip_id"], origin)
    return [_caption(clip, text, origin, backend.digest) for clip, text in pairs if text.dense.strip()]


def _caption(clip: dict[str, Any], text: CaptionText, origin: str, producer: str) -> Caption:
    structured = json.dumps(dict(text.structured), sort_keys=True, ensure_ascii=False)
    return Caption(
        clip["clip_id"],
        text.short.strip() or text.dense.strip(),
        text.dense.strip(),
        structured,
        origin,
        producer,
    )
