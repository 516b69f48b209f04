"""The stages of the line: what each one calls, and what it is made from."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: `call` names the room's function, `settings` the recipe's field that it is called with.

    `call` is text and is imported only when the stage has work to do: the rooms load torch, Ray and MuJoCo, which
    takes seconds, and a kept stage, `--help` and the Prefect worker should not pay for that.
    """

    name: str
    title: str
    call: str
    settings: str
    after: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    """Folders in the workspace with the state of an interrupted training. They are deleted before the stage is run on
    other inputs or settings: a state carries over only to the very work that it was saved from."""
    version: int = 1
    """Raise it when the stage's code changes what it makes: every receipt of the old code is then void."""


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="films",
            title="render films of the embedded world",
            call="data.worlds.films:render_films",
            settings="films",
        ),
        Stage(
            name="curate",
            title="probe, split, score and normalise videos to clips",
            call="data.curate:curate",
            settings="curate",
            after=("films",),
        ),
        Stage(
            name="captioner",
            title="train the captioner on the labelled clips",
            call="training.captioner:train_captioner",
            settings="captioner",
            state=("checkpoints/captioner",),
            after=("curate",),
        ),
        Stage(
            name="caption",
            title="give every clip a short and a dense caption",
            call="data.caption:caption_clips",
            settings="caption",
            after=("curate", "captioner"),
        ),
        Stage(
            name="shard",
            title="write WebDataset shards and their manifest",
            call="data.shards:write_dataset",
            settings="shard",
            after=("curate", "caption"),
        ),
        Stage(
            name="autoencoder",
            title="train the video autoencoder",
            call="training.autoencoder:train_autoencoder",
            settings="autoencoder",
            state=("checkpoints/autoencoder",),
            after=("shard",),
        ),
        Stage(
            name="encode",
            title="encode clips and captions to latent shards",
            call="data.encode:encode_dataset",
            settings="encode",
            after=("shard", "autoencoder"),
        ),
        Stage(
            name="train",
            title="train the diffusion transformer",
            call="training.transformer:train_transformer",
            settings="transformer",
            state=("checkpoints/transformer", "transformer"),
            after=("encode", "autoencoder"),
        ),
        Stage(
            name="evaluate",
            title="measure prompt adherence on unseen prompts",
            call="training.evaluate:evaluate",
            settings="evaluation",
            after=("curate", "train"),
        ),
        Stage(
            name="register",
            title="register the model and move the champion alias",
            call="training.registry:register_model",
            settings="registry",
            after=("train", "evaluate"),
        ),
        Stage(
            name="showcase",
            title="serve the champion and ask it for videos",
            call="flows.showcase:show",
            settings="showcase",
            after=("register",),
        ),
    )
}
