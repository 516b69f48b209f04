"""What a served model says of itself: what it was trained on, and how it is sampled."""

from pydantic import Field

from model.config import Config
from model.runner import SamplingDefaults
from model.sampling_options import PolishRound
from model.shapes import Compression, VideoShape
from model.text import EMBEDDED

DEFAULT_WINDOW_FRAMES = 16


class PipelineFacts(Config):
    """What a served model says of itself; lies beside the weights as `skyloom.json`."""

    fps: float = Field(gt=0)
    trained_buckets: list[str] = []
    also_trained: list[str] = Field(default=[], description="sizes of clips that were scaled for training")
    text_encoder: str = EMBEDDED
    prompt_expander: str = Field(default="", description="rules of data/prompts.py that short prompts go through")
    dataset_id: str = ""
    recipe: str = ""
    sigma_shift: float = 1.0
    default_num_steps: int = 20
    default_guidance_scale: float = 2.5
    default_guidance_low: float = Field(default=0.0, description="noise level from which the prompt guides")
    default_moves_patches: bool = Field(default=False, description="whether each step cuts patches elsewhere")
    default_polish: tuple[PolishRound, ...] = ()
    weights_digest: str = ""

    @property
    def window_frames(self) -> int:
        """The most frames that the network was trained on at once."""
        lengths = [VideoShape.parse(bucket).num_frames for bucket in self.trained_buckets]
        return max(lengths, default=DEFAULT_WINDOW_FRAMES)

    @property
    def sampling(self) -> SamplingDefaults:
        """How it is sampled when nothing else is said; frames of less than half its smallest are not polished."""
        return SamplingDefaults(
            self.default_num_steps,
            self.default_guidance_scale,
            self.sigma_shift,
            self.default_guidance_low,
            self.default_moves_patches,
            self.default_polish,
            self.smallest_frame // 2,
        )

    @property
    def smallest_frame(self) -> int:
        """Cells of a frame of the smallest size that it was trained on."""
        grids = [VideoShape.parse(bucket).latent(Compression()) for bucket in self.trained_buckets]
        return min((grid.height * grid.width for grid in grids), default=0)
