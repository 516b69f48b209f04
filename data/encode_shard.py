"""Encodes one shard: clips to latents at every size that is asked for, captions to prompt states."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from data.config import EncodeConfig
from data.encode_plan import ShardJob
from data.latents import IMAGE_VIEW, LATENT_GROUP, pack, scale_view
from data.manifest import MemberReader
from data.tars import write_tar
from data.video import open_video, read_frames
from data.workspace import Workspace
from model.autoencoder import VideoAutoencoder
from model.errors import ShardError
from model.pixels import covering, to_video
from model.precision import autocast
from model.shapes import VideoShape
from model.text import load_text_encoder

_STEP_PX = 16
"""Sides of other sizes are multiples of it: a patch of 2 x 2 cells."""


class ShardEncoder:
    """Makes one shard at a time from the members of another, as a Ray actor or in place."""

    def __init__(self, config: EncodeConfig, workspace: Workspace) -> None:
        torch.set_num_threads(config.num_threads)
        self._config = config
        self._workspace = workspace
        self._autoencoder = VideoAutoencoder.from_pretrained(
            config.autoencoder or workspace.autoencoder, use_safetensors=True
        )
        torch.nn.Module.to(self._autoencoder.eval(), config.device)
        self._text_encoder = load_text_encoder(config.text_encoder)

    @torch.inference_mode()
    def encode(self, job: ShardJob) -> str:
        """The name of the shard that was written; the same job gives the same bytes.

        Raises:
            ShardError: a source does not match its digest or its bucket.
        """
        rounding = autocast(self._config.device)
        with MemberReader(self._workspace.shards) as reader, rounding:
            members = self._latents(job, reader) if job.group == LATENT_GROUP else self._prompts(job, reader)
        write_tar(self._workspace.latents / job.name, zip(job.member_names, members, strict=True))
        return job.name

    def _latents(self, job: ShardJob, reader: MemberReader) -> list[bytes]:
        packed: list[bytes] = []
        # Batches are cut from the shard alone: a shard made after a kill has the bytes of one made before.
        for start in range(0, len(job.sources), self._config.batch_size):
            sources = job.sources[start : start + self._config.batch_size]
            clips = [decode_clip(reader.read(source), job.bucket) for source in sources]
            tensors = self._encoded(job, [frames for frames, _ in clips])
            for index, (source, (_, fps)) in enumerate(zip(sources, clips, strict=True)):
                header = {
                    **job.header(source),
                    "bucket": job.bucket,
                    "fps": fps,
                    "scale": "raw",
                    "transform": "whole frame",
                }
                packed.append(pack({name: values[index] for name, values in tensors.items()}, header))
        return packed

    def _encoded(self, job: ShardJob, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Means and log-variances of every view of the clips: as they are, their middle frames, other sizes."""
        video = to_video(clips, self._config.device)
        views = {"": video}
        if job.images:
            middle = video[:, :, video.shape[2] // 2, None]
            views[IMAGE_VIEW] = middle.repeat(1, 1, self._autoencoder.compression.time, 1, 1)
        for scale in job.scales:
            shape = VideoShape.parse(job.bucket).scaled(scale, _STEP_PX)
            views[scale_view(scale)] = covering(video, shape.height, shape.width)
        posteriors = {view: self._autoencoder.encode(seen) for view, seen in views.items()}
        means = {f"{view}mean": posterior.mean for view, posterior in posteriors.items()}
        return means | {f"{view}logvar": posterior.logvar for view, posterior in posteriors.items()}

    def _prompts(self, job: ShardJob, reader: MemberReader) -> list[bytes]:
        texts = [json.loads(reader.read(source)) for source in job.sources]
        states = self._states([text[form] for text in texts for form in ("dense", "short")])
        return [
            pack({form: states[text[form]] for form in ("dense", "short")}, job.header(source))
            for source, text in zip(job.sources, texts, strict=True)
        ]

    def _states(self, texts: Sequence[str]) -> dict[str, Tensor]:
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        size = self._config.text_batch_size
        states: dict[str, Tensor] = {}
        for start in range(0, len(unique), size):
            batch = unique[start : start + size]
            states |= zip(batch, self._text_encoder.encode(batch), strict=True)
        return states


def decode_clip(data: bytes, bucket: str) -> tuple[np.ndarray, float]:
    """The frames (uint8 T H W C) and the frame rate of a clip's MP4 bytes.

    Raises:
        ShardError: the clip has another size than its bucket.
        DecodeError: the bytes are no video.
    """
    shape = VideoShape.parse(bucket)
    with TemporaryDirectory(prefix="skyloom-") as folder:
        path = Path(folder, "clip.mp4")
        path.write_bytes(data)
        frames = read_frames(path)
        with open_video(path) as (_, stream):
            fps = float(stream.average_rate or 0)
    if frames.shape[:3] != shape:
        raise ShardError(f"a clip of bucket {bucket} decodes to T H W {frames.shape[:3]}; curate again")
    return frames, fps
