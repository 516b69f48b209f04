"""Where a run keeps what it makes: one folder, every path in one place."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The folder of one run. Nothing outside it is written, so deleting it forgets the run."""

    root: Path

    @property
    def films(self) -> Path:
        """Raw videos that the embedded world rendered (a user's own source folder lies elsewhere)."""
        return self.root / "films"

    @property
    def truth(self) -> Path:
        """Truth tracks of rendered films; only training.evaluate and the probe may read them."""
        return self.root / "truth"

    @property
    def catalog(self) -> Path:
        """Parquet tables: sources, clips, captions, quarantine."""
        return self.root / "catalog"

    @property
    def clips(self) -> Path:
        """Normalised clips, `<clip_id>.mp4`."""
        return self.root / "clips"

    @property
    def captioner(self) -> Path:
        """The trained captioner's folder."""
        return self.root / "captioner"

    @property
    def shards(self) -> Path:
        """WebDataset tars of the groups `video` and `text`, with their manifest."""
        return self.root / "shards"

    @property
    def latents(self) -> Path:
        """WebDataset tars of the groups `latent` and `prompt`, with their manifest."""
        return self.root / "latents"

    @property
    def autoencoder(self) -> Path:
        """The trained autoencoder's folder."""
        return self.root / "autoencoder"

    @property
    def transformer(self) -> Path:
        """What the transformer's training keeps beside its checkpoints: the MLflow run, Ray Train's folder."""
        return self.root / "transformer"

    def checkpoints(self, stage: str) -> Path:
        """The checkpoints of a training stage, apart from its finished weights so that their digest stays theirs."""
        return self.root / "checkpoints" / stage

    @property
    def pipeline(self) -> Path:
        """The whole model as a diffusers folder, ready to register."""
        return self.root / "pipeline"

    @property
    def evaluation(self) -> Path:
        """The probe network, scores and sample videos."""
        return self.root / "evaluation"

    @property
    def videos(self) -> Path:
        """Videos that came back from the served model."""
        return self.root / "videos"

    @property
    def mlflow(self) -> Path:
        """The MLflow database and its artifacts."""
        return self.root / "mlflow"

    @property
    def receipts(self) -> Path:
        """One JSON receipt per finished stage."""
        return self.root / "receipts"

    @property
    def logs(self) -> Path:
        """JSONL progress records, one file per stage."""
        return self.root / "logs"

    @property
    def tracking_uri(self) -> str:
        """The MLflow tracking store, a SQLite file."""
        return f"sqlite:///{(self.mlflow / 'mlflow.db').resolve()}"
