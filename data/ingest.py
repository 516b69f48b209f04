"""One source to clips in a single pass: decode, find shots, cut windows, score, write. For the child process."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from data.config import IPRATIO, PIXEL_FORMAT, IngestConfig
from data.normalize import Normalizer
from data.probe import FactsCollector, MediaLimits, open_untrusted
from data.records import ClipRecord, SourceFacts, SourceRecord
from data.score import score_clip
from data.split import ShotTracker, Window, WindowCutter, WindowGrid
from data.video import write_mp4
from model.config import digest_of
from model.errors import DecodeError
from model.shapes import VideoShape


class _Timed(NamedTuple):
    pts: int
    rgb: np.ndarray


def ingest_source(
    path: Path, source_id: str, config: IngestConfig, limits: MediaLimits, clips_dir: Path
) -> SourceRecord:
    """The source's facts and its clips, whose files lie in `clips_dir` when this returns.

    Raises:
        DecodeError: the file breaks a limit, is damaged or incomplete, or holds no frame.
    """
    with open_untrusted(path, limits) as (container, stream):
        return _Ingest(source_id, config, limits, clips_dir, container, stream).run()


def probe_source(path: Path, limits: MediaLimits) -> SourceFacts:
    """The facts alone, by decoding the whole file once; raises like `ingest_source`."""
    with open_untrusted(path, limits) as (container, stream):
        facts = FactsCollector(container, stream, limits)
        for picture, pts in pictures(container, stream):
            facts.add(picture, pts)
        return facts.facts()


class _Ingest:
    def __init__(
        self,
        source_id: str,
        config: IngestConfig,
        limits: MediaLimits,
        clips_dir: Path,
        container: InputContainer,
        stream: VideoStream,
    ) -> None:
        self._source_id, self._config, self._clips_dir = source_id, config, clips_dir
        self._container, self._stream = container, stream
        self._facts = FactsCollector(container, stream, limits)
        self._normalizer = Normalizer(config.shapes, stream.sample_aspect_ratio or 1)
        self._tracker: ShotTracker[_Timed] = ShotTracker(config.shots)
        self._clips: list[ClipRecord] = []

    def run(self) -> SourceRecord:
        cutter: WindowCutter | None = None
        for picture, pts in pictures(self._container, self._stream):
            self._facts.add(picture, pts)
            if cutter is None:
                cutter = WindowCutter(self._grid(picture))
            rgb = self._normalizer(picture)
            self._cut(cutter, self._tracker.push(_Timed(pts, rgb), rgb))
        facts = self._facts.facts()
        assert cutter is not None, "facts() raises when there was no frame"
        self._cut(cutter, self._tracker.finish())
        self._write(cutter.finish(self._facts.end_pts))
        return SourceRecord(
            source_id=self._source_id,
            facts=facts,
            num_shots=cutter.num_shots,
            num_short_shots=cutter.num_short_shots,
            clips=tuple(self._clips),
        )

    def _grid(self, picture: VideoFrame) -> WindowGrid:
        if self._stream.time_base is None:
            raise DecodeError(f"{self._container.name} gives no time base; remux it first")
        shape = self._normalizer.shape_for(picture)
        return WindowGrid(shape.num_frames, self._config.fps, self._stream.time_base)

    def _cut(self, cutter: WindowCutter, judged: list[tuple[_Timed, bool]]) -> None:
        for (pts, rgb), starts_shot in judged:
            self._write(cutter.push(pts, rgb, starts_shot=starts_shot))

    def _write(self, windows: list[Window]) -> None:
        for window in windows:
            self._clips.append(self._clip(window))

    def _clip(self, window: Window) -> ClipRecord:
        num_frames, height, width, _ = window.frames.shape
        shape = VideoShape(num_frames, height, width)
        clip_id = digest_of(
            [
                self._source_id,
                window.start_pts,
                window.end_pts,
                str(self._stream.time_base),
                self._config.transform(shape),
            ]
        )
        path = self._clips_dir / f"{clip_id}.mp4"
        write_mp4(
            path, window.frames, self._config.fps, crf=self._config.crf, ipratio=IPRATIO, pixel_format=PIXEL_FORMAT
        )
        content = path.read_bytes()
        return ClipRecord(
            clip_id=clip_id,
            shot_index=window.shot_index,
            start_pts=window.start_pts,
            end_pts=window.end_pts,
            time_base=str(self._stream.time_base),
            bucket=shape.bucket,
            fps=self._config.fps,
            digest=hashlib.sha256(content).hexdigest(),
            num_bytes=len(content),
            scores=score_clip(window.frames),
        )


def pictures(container: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame, int]]:
    """Decoded pictures with strictly rising timestamps; a repeated or backward one is passed over.

    Raises:
        DecodeError: the stream stops decoding, or the decoder had to invent part of a picture.
    """
    last_pts: int | None = None
    try:
        for picture in container.decode(stream):
            if picture.is_corrupt:
                raise DecodeError(f"the picture after pts {last_pts} is damaged; fetch the file again")
            if picture.pts is None:
                raise DecodeError(f"the picture after pts {last_pts} has no timestamp; remux the file first")
            if last_pts is None or picture.pts > last_pts:
                last_pts = picture.pts
                yield picture, picture.pts
    except av.error.FFmpegError as error:
        raise DecodeError(f"decoding stops after pts {last_pts} ({error}); the file is damaged") from error
