"""The settings of the tabletop's films."""

from pydantic import Field

from model.config import Config


class FilmsConfig(Config):
    """How many films the tabletop world gives, how much of them is captioned, and which odd files lie among them."""

    num_films: int = Field(
        default=40, ge=1, le=100_000, description="films of different content; odd copies come on top"
    )
    shots_per_film: int = Field(default=45, ge=1, le=1_000, description="shots of each film, joined by hard cuts")
    labelled_fraction: float = Field(
        default=0.5, ge=0, le=0.5, description="part of the films with captions beside them"
    )
    max_count: int = Field(default=1, ge=1, le=3, description="objects of a shot at most; they are alike")
    scale: float = Field(default=1.0, ge=0.5, le=4, description="size of the pictures; 1 is 128x72, 96x96 and 72x128")
    seed: int = Field(default=0, ge=0, description="decides every film; equal settings give equal bytes")
    variable_rate: bool = Field(default=True, description="the second film has a variable frame rate")
    rotated: bool = Field(default=True, description="the third film is stored on its side, with a rotation flag")
    duplicate: bool = Field(default=True, description="add a copy of the first film under another name")
    truncated: bool = Field(default=True, description="add a film that breaks off")
    crf: int = Field(default=14, ge=0, le=40, description="H.264 quality: lower is better and larger")
    num_processes: int | None = Field(
        default=None, ge=1, le=256, description="renderers side by side; one per core when null"
    )
