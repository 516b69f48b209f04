"""`skyloom verify`: who made a video, with which model and from what, and whether to believe it."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console

from flows.commands.flags import Flags, read_flags
from flows.commands.served_run import served_run
from model.errors import ConfigError
from serving.config import ServeConfig
from serving.trust.certificates import AUTHORITY
from serving.trust.provenance import Verdict, inspect

MEANINGS = {
    "Trusted": "signed by a server that you trust, and unchanged since",
    "Valid": "unchanged since it was signed, by somebody whom you gave no reason to trust",
    "Invalid": "changed since it was signed, or signed wrongly",
    "Absent": "carries no Content Credentials: never signed, or removed by a tool that copied it",
}


class VerifyFlags(Flags):
    """Says who made a video or picture, and whether it is as it was made. Exit code 1 unless it is Trusted."""

    file: CliPositionalArg[Path] = Field(description="an MP4, WebP or JPEG")
    authority: Path | None = Field(default=None, description="PEM root to trust; that of the workspace's own server")
    workspace: Path | None = Field(
        default=None, description="the run whose server is trusted; as `skyloom serve` chooses it"
    )


def verify(name: str, arguments: list[str]) -> int:
    """1 unless the file is trusted."""
    flags = read_flags(VerifyFlags, name, arguments)
    verdict = inspect(flags.file, _authority(flags))
    console = Console(highlight=False)
    console.print(f"[bold]{verdict.state}[/]: {MEANINGS[verdict.state]}")
    for key, value in _details(verdict).items():
        console.print(f"  {key:<16} {value}", markup=False, soft_wrap=True)
    return 0 if verdict.state == "Trusted" else 1


def _authority(flags: VerifyFlags) -> bytes | None:
    if flags.authority is not None:
        if not flags.authority.is_file():
            raise ConfigError(f"{flags.authority} is no file; name the PEM file of a root certificate")
        return flags.authority.read_bytes()
    place = served_run(flags.workspace)
    path = ServeConfig.of_run(place.root, tracking_uri=place.tracking_uri).identity / AUTHORITY
    return path.read_bytes() if path.is_file() else None


def _details(verdict: Verdict) -> dict[str, object]:
    facts = {"title": verdict.title} | dict(verdict.generation)
    if verdict.ingredients:
        facts["made from"] = ", ".join(verdict.ingredients)
    if verdict.reasons:
        facts["reasons"] = ", ".join(verdict.reasons)
    return {key: value for key, value in facts.items() if value not in ("", None, [], {})}
