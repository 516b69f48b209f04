"""Settings of everything that handles data. Nothing heavy is imported here, so that a recipe is read in a blink."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveFloat, field_validator

from model.config import Config
from model.shapes import VideoShape


class ShotConfig(Config):
    """How PySceneDetect's adaptive detector tells a cut from motion."""

    adaptive_threshold: float = Field(default=3.0, gt=0, description="Change over the mean change around it.")
    min_content: float = Field(default=15.0, ge=0, description="Least mean change in HSV levels at a cut.")


PIXEL_FORMAT = "yuv444p"  # small clips: halved chroma would lose a small object's colour
IPRATIO = 1.4  # x264's own: another makes other clips


class IngestConfig(Config):
    """What decides a clip's bytes. A change here makes new clips; a change of thresholds does not."""

    buckets: tuple[str, ...] = Field(
        default=("64x64x16", "80x48x16", "48x80x16"),
        min_length=1,
        description="Clip sizes as WIDTHxHEIGHTxFRAMES; each source takes the nearest aspect.",
    )
    fps: float = Field(default=8.0, gt=0, le=240, description="Frame rate of the clips.")
    crf: int = Field(default=12, ge=0, le=51, description="x264 quality of the clips; lower is better.")
    shots: ShotConfig = ShotConfig()
    version: int = Field(default=1, description="Raised when the code makes other clips from the same settings.")

    @field_validator("buckets")
    @classmethod
    def _parses(cls, buckets: tuple[str, ...]) -> tuple[str, ...]:
        for bucket in buckets:
            VideoShape.parse(bucket)
        return buckets

    @property
    def shapes(self) -> list[VideoShape]:
        """The buckets as shapes."""
        return [VideoShape.parse(bucket) for bucket in self.buckets]

    def transform(self, shape: VideoShape) -> dict[str, str | int | float]:
        """What makes a span of a source into a clip of this shape; part of the clip's identity."""
        return {
            "bucket": shape.bucket,
            "fps": self.fps,
            "crf": self.crf,
            "pixel_format": PIXEL_FORMAT,
            "version": self.version,
        }


class MediaLimits(Config):
    """What one untrusted file may cost; past a limit its child process is ended and the file quarantined."""

    max_pixels: int = Field(default=4096 * 2304, gt=0, description="Largest coded width times height.")
    max_frames: int = Field(default=2_000_000, gt=0, description="Most frames decoded from one file.")
    max_address_bytes: int = Field(default=3 * 1024**3, gt=0, description="Address space of the child.")
    max_cpu_s: int = Field(default=1800, gt=0, description="Processor time for one file.")
    max_wall_s: float = Field(default=3600, gt=0, description="Time on the clock for one file.")
    max_open_files: int = Field(default=64, ge=16, description="File descriptors of the child process.")
    max_written_bytes: int = Field(default=1024**3, gt=0, description="Largest file that the child may write.")


class ClipThresholds(Config):
    """Bounds on the scores; a clip past one is dropped and keeps its row, with the reason."""

    min_motion: float = Field(default=0.0, ge=0, le=1, description="Below: 'too static'.")
    max_motion: float = Field(default=1.0, ge=0, le=1, description="Above: 'too restless'.")
    min_sharpness: float = Field(default=0.0, ge=0, description="Below: 'blurred'.")
    min_exposure: float = Field(default=0.03, ge=0, le=1, description="Below: 'too dark'.")
    max_exposure: float = Field(default=0.97, ge=0, le=1, description="Above: 'too bright'.")
    max_border: float = Field(default=0.12, ge=0, le=1, description="Above: 'black bars'.")
    max_overlay_text: float = Field(default=1.0, ge=0, le=1, description="Above: 'overlaid text'.")


class DedupConfig(Config):
    """How alike two clips must be to count as one. The defaults catch re-encodings, not similar scenes."""

    max_distance: int = Field(default=12, ge=-1, le=64, description="Hash bits that may differ; -1 keeps all.")
    max_level: int = Field(default=12, ge=0, le=255, description="Largest difference in any thumbnail level.")


class JudgeConfig(Config):
    """What is decided after decoding: thresholds, near-duplicates, and which caption is whose."""

    thresholds: ClipThresholds = ClipThresholds()
    dedup: DedupConfig = DedupConfig()
    least_caption_cover: float = Field(
        default=0.9, gt=0, le=1, description="Share of a clip that a sidecar caption must cover to be its caption."
    )


class CurateConfig(JudgeConfig):
    """How raw video becomes clips. Only `ingest` decides a clip's bytes; the rest is judged from stored scores."""

    ingest: IngestConfig = IngestConfig()
    limits: MediaLimits = MediaLimits()
    num_workers: int = Field(default=2, ge=0, description="Sources at a time, as Ray tasks; 0 works without Ray.")


INSTRUCTION = (
    "These are frames of one short video, in order. Describe the video. "
    "Answer with one JSON object and nothing else: "
    '{"short": one short sentence, "dense": two or three sentences on what is seen, where, in which colours, '
    'and how it moves, "structured": {"subject": ..., "action": ..., "camera": ..., "style": ..., '
    '"text": text that can be read or ""}}'
)


class TrainedCaptionerConfig(Config):
    """The captioner that Skyloom trained on the labelled clips of this workspace."""

    kind: Literal["captioner"] = "captioner"
    folder: Path | None = Field(default=None, description="Captioner folder; the workspace's own when empty")


class TransformersCaptionerConfig(Config):
    """Any image-text-to-text model that transformers loads."""

    kind: Literal["transformers"] = "transformers"
    model: str = Field(description="Local folder or hub id")
    revision: str | None = Field(
        default=None, description="Hub revision; pin a commit for captions that can be repeated"
    )
    device: str = Field(default="cpu", description="torch device")
    instruction: str = Field(default=INSTRUCTION, description="What the model is asked")
    num_frames: int = Field(default=4, ge=1, le=64, description="Frames shown, evenly spaced over the clip")
    max_new_tokens: int = Field(default=256, ge=1, description="Longest answer")


class EndpointCaptionerConfig(Config):
    """Any OpenAI-compatible chat endpoint that takes images (vLLM and others)."""

    kind: Literal["endpoint"] = "endpoint"
    base_url: str = Field(description="Address up to and including /v1")
    model: str = Field(description="Model name that the endpoint serves")
    revision: str = Field(default="", description="Set another value when other weights answer to the same model name")
    api_key_variable: str = Field(
        default="OPENAI_API_KEY", description="Environment variable that holds the key, if one is needed"
    )
    instruction: str = Field(default=INSTRUCTION, description="What the model is asked")
    num_frames: int = Field(default=4, ge=1, le=64, description="Frames sent, evenly spaced over the clip")
    max_tokens: int = Field(default=400, ge=1, description="Longest answer")
    num_connections: int = Field(default=8, ge=1, description="Requests in flight")
    timeout_s: float = Field(default=120, gt=0, description="Longest wait for one answer")
    max_retries: int = Field(default=4, ge=0, description="Tries again after connection trouble, 429 and 5xx")


BackendConfig: TypeAlias = Annotated[
    TrainedCaptionerConfig | TransformersCaptionerConfig | EndpointCaptionerConfig,
    Field(discriminator="kind"),
]


class CaptionConfig(Config):
    """Who captions the clips that came without text."""

    backend: BackendConfig = Field(default=TrainedCaptionerConfig(), description="The captioner, chosen by its `kind`")
    batch_size: int = Field(
        default=512, ge=1, description="Clips captioned together, and kept together when the run is killed"
    )
    max_failed_share: float = Field(
        default=0.05, ge=0, le=1, description="Share of clips that may stay without a caption"
    )


class ShardConfig(Config):
    """How clips are laid out in shards."""

    clips_per_shard: int = Field(
        default=256, ge=1, description="Clips in one shard at most; a shard is also the unit of work"
    )


class EncodeConfig(Config):
    """What turns a dataset into latents, and on how much of the machine."""

    autoencoder: Path | None = Field(default=None, description="Autoencoder folder; the workspace's own when empty")
    text_encoder: str = Field(default="minilm", description="`minilm` or a folder that load_text_encoder takes")
    images: bool = Field(default=False, description="Encode the middle frame of each clip too, as an image")
    scales: tuple[PositiveFloat, ...] = Field(
        default=(), description="Encode each clip at these multiples of its size too, so that one model learns many"
    )
    batch_size: int = Field(default=16, ge=1, description="Clips encoded together")
    text_batch_size: int = Field(default=32, ge=1, description="Captions encoded together, of like length")
    num_actors: int = Field(default=1, ge=0, description="Shards encoded at once, a CPU each; 0: here, without Ray")
    num_threads: int = Field(default=2, ge=1, description="torch threads in one actor")
    num_gpus: float = Field(default=0, ge=0, description="GPU share of one actor")
    device: str = Field(default="cpu", description="torch device of the networks")
