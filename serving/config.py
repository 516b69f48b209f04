"""The settings of a server: where it listens, what it serves, where jobs and files live."""

from pathlib import Path
from typing import Literal, Self, TypeAlias

from pydantic import AliasChoices, Field

from model.config import Config
from serving.limits import PixelLimits

GuardKind: TypeAlias = Literal["moderations", "chat"]


class ServeOptions(Config):
    """What an operator chooses; `skyloom serve` has a flag for each."""

    host: str = Field(default="127.0.0.1", description="address to listen on; loopback unless said otherwise")
    port: int = Field(default=8000, ge=1, le=65535, description="TCP port of the HTTP API")
    keys: Literal["auto", "required", "off"] = Field(
        default="auto", description="whether requests need an API key; auto: off loopback, and once a key was made"
    )
    insecure_dev: bool = Field(
        default=False,
        validation_alias=AliasChoices("insecure_dev", "insecure-dev"),
        description="start although MLflow, Prefect or Ray stands open to other machines",
    )
    num_cpus: float = Field(default=1.0, gt=0, description="CPU cores (and torch threads) of the model replica")
    num_gpus: float = Field(
        default=0.0,
        ge=0,
        description="GPUs that the model replica reserves; the network itself computes on the CPU so far",
    )
    num_model_replicas: int = Field(default=1, ge=1, description="replicas that pull jobs from the table")
    max_model_replicas: int = Field(
        default=0, ge=0, description="replicas up to which a long queue adds more; 0: as many as num_model_replicas"
    )
    jobs_per_replica: int = Field(default=8, ge=1, description="pending jobs for which there should be one replica")
    upscale_after_s: float = Field(default=10.0, ge=0, description="how long a queue must be long to add replicas")
    downscale_after_s: float = Field(default=300.0, ge=0, description="how long it must be short to end some")
    more_models: tuple[str, ...] = Field(
        default=(), description="further registered models that the same replicas serve, each under its own name"
    )
    max_loaded: int = Field(default=2, ge=1, description="models, or versions of one, that a replica keeps in memory")
    lease_s: float = Field(default=20.0, gt=0, description="a job whose worker is silent this long is given to another")
    max_attempts: int = Field(default=3, ge=1, description="a job that lost its worker this often fails")
    max_batch: int = Field(default=4, ge=1, description="waiting videos of equal shape that are made in one batch")
    poll_interval_s: float = Field(default=0.02, gt=0, description="how often an idle replica looks for a job")
    alias_poll_s: float = Field(default=2.0, gt=0, description="how often a replica checks whether the alias moved")
    max_queued_jobs: int = Field(default=1000, ge=1, description="jobs waiting at once before new ones get 429")
    max_body_bytes: int = Field(default=32 * 2**20, ge=1024, description="largest request body, refused before parsing")
    max_upload_bytes: int = Field(
        default=2**31, ge=1, description="frames of uploads that are kept for one owner before new ones get 429"
    )
    body_timeout_s: float = Field(
        default=20.0, gt=0, description="how long a request body may take, beside a second for each 16 KiB of it"
    )
    max_video_px: int = Field(default=2**22, ge=1, description="most width x height x frames that are made at once")
    max_long_px: int = Field(
        default=2**24, ge=1, description="most width x height x frames of a long video, which is made window by window"
    )
    artifact_stores: tuple[str, ...] = Field(
        default=(), description="addresses below which weights may lie beside MLflow's own store, s3://models for one"
    )
    word_rules: Path | None = Field(
        default=None, description="what prompts may not ask for, `category: phrase` a line; a short list comes with us"
    )
    guard_url: str = Field(default="", description="OpenAI-compatible address of a guard model that judges prompts too")
    guard_model: str = Field(default="", description="the model to ask for there")
    guard_kind: GuardKind = Field(
        default="moderations", description="moderations: it has OpenAI's route of that name; chat: it answers in words"
    )
    guard_frames: bool = Field(default=False, description="whether the guard model looks at the frames of videos too")
    frame_check: Literal["nsfw", "off"] = Field(default="nsfw", description="the classifier that looks at each video")
    frame_threshold: float = Field(default=0.8, gt=0, le=1, description="its score from which a video is refused")
    visible_mark: str = Field(default="", max_length=64, description="text burnt into the corner of every video")
    certificate: Path | None = Field(
        default=None, description="PEM chain (leaf first, root last) to sign files with; an own one is made without it"
    )
    private_key: Path | None = Field(default=None, description="PEM of the certificate's ES256 key")
    webhook_hosts: tuple[str, ...] = Field(
        default=(), description="hosts (HOST or HOST:PORT) that webhooks may go to; * means every public https one"
    )
    webhook_poll_s: float = Field(default=0.5, gt=0, description="how often the courier looks for due webhooks")
    otlp_url: str = Field(default="", description="OpenTelemetry collector (OTLP over HTTP) that gets the traces")
    retention_s: float = Field(
        default=7 * 86_400.0, gt=0, description="how long a finished video or a character is kept"
    )
    sweep_every_s: float = Field(default=60.0, gt=0, description="how often what has expired is cleared away")
    image_timeout_s: float = Field(default=120.0, gt=0, description="how long a request for pictures waits for them")
    start_timeout_s: float = Field(default=180.0, gt=0, description="how long start() waits for the model to be ready")


class ServeConfig(ServeOptions):
    """Everything that a server needs to know; the same object reaches every replica."""

    database_url: str = Field(description="job table: sqlite:////abs/path.db or postgresql+psycopg://…")
    storage: Path = Field(description="folder for finished videos, thumbnails and spritesheets")
    tracking_uri: str = Field(description="MLflow store that holds the model registry")
    model_name: str = Field(default="skyloom", min_length=1, description="name of the registered model")
    model_alias: str = Field(default="champion", min_length=1, description="registry alias to serve and to follow")

    @classmethod
    def at(cls, folder: Path, *, tracking_uri: str, **changes: object) -> Self:
        """The usual settings of one machine: the job table and the result files below `folder`."""
        folder = folder.resolve()
        settings = {"database_url": f"sqlite:///{folder / 'jobs.db'}", "storage": folder / "files"}
        return cls.model_validate(settings | {"tracking_uri": tracking_uri} | changes)

    @classmethod
    def of_run(cls, root: Path, *, tracking_uri: str, **changes: object) -> Self:
        """The settings of the server of a run, which keeps its jobs and files in the run's folder `serve`."""
        return cls.at(root / "serve", tracking_uri=tracking_uri, **changes)

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every model that is served; the first is taken where a request names none."""
        return tuple(dict.fromkeys((self.model_name, *self.more_models)))

    def named(self, model_id: str) -> tuple[str, str] | None:
        """The served model that `NAME`, `NAME@VERSION` or `NAME@ALIAS` means, and what follows the @, if anything."""
        if model_id in self.model_names:
            return model_id, ""
        name, _, reference = model_id.rpartition("@")
        return (name, reference) if reference and name in self.model_names else None

    @property
    def pixels(self) -> PixelLimits:
        """How large a video may be."""
        return PixelLimits(self.max_video_px, max(self.max_video_px, self.max_long_px))

    @property
    def uploads(self) -> Path:
        """Where the frames of uploads lie."""
        return self.storage / "uploads"

    @property
    def identity(self) -> Path:
        """Where the server's own certificate and key lie."""
        return self.storage / "identity"

    @property
    def url(self) -> str:
        """The address of the server, without the `/v1` that the SDK's base_url wants."""
        return f"http://{self.host}:{self.port}"
