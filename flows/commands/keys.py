"""`skyloom keys`: makes, lists and revokes the API keys of a server."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.table import Table

from flows.commands.flags import Flags, read_flags
from flows.commands.served_run import served_run
from model.errors import ConfigError
from serving.config import ServeConfig
from serving.store.admission import Quota
from serving.store.database import Database
from serving.store.keys import SCOPES, KeyTable, Scope
from serving.store.tables import ApiKey

DAY_S = 86_400


class KeysFlags(Flags):
    """Makes, lists and revokes API keys: `create NAME`, `list`, `revoke ID`.

    Once a server has a key, every request needs one. Videos belong to the owner of the key that asked for them.
    """

    action: CliPositionalArg[str] = Field(default="list", description="create, list or revoke")
    subject: CliPositionalArg[str] = Field(default="", description="the new key's name, or the id of the one to revoke")
    workspace: Path | None = Field(
        default=None, description="the run whose server it is; when not given, the one that `skyloom serve` serves"
    )
    database_url: str | None = Field(default=None, description="its job database, when it is not the workspace's own")
    owner: str = Field(default="", max_length=64, description="keys of one owner see the same videos")
    scopes: tuple[Scope, ...] = Field(
        default=SCOPES, min_length=1, description="read, write, metrics, or several of them"
    )
    days: float | None = Field(default=None, gt=0, description="how long the key lives; for ever when not given")
    quota: Quota = Field(default=Quota(), description="how much may be asked for with it")


def keys(name: str, arguments: list[str]) -> None:
    """Does one thing with the keys of a server.

    Raises:
        ConfigError: there is no such action or no such key.
    """
    flags = read_flags(KeysFlags, name, arguments)
    table, console = KeyTable(Database(_address(flags))), Console(highlight=False)
    if flags.action == "create" and flags.subject:
        lifetime_s = None if flags.days is None else flags.days * DAY_S
        made = table.create(
            flags.subject, owner=flags.owner, scopes=flags.scopes, lifetime_s=lifetime_s, quota=flags.quota
        )
        console.print(f"{made.key.id} ({made.key.name}). The secret is shown this once:\n")
        console.print(made.secret, markup=False, soft_wrap=True)
    elif flags.action == "list" and not flags.subject:
        rows = table.list()
        console.print(_listing(rows) if rows else "There is no key yet: `skyloom keys create NAME` makes one.")
    elif flags.action == "revoke" and flags.subject:
        if not table.revoke(flags.subject):
            raise ConfigError(f"there is no live key {flags.subject!r}; `skyloom keys list` lists their ids")
        console.print(f"{flags.subject} is refused from now on.")
    else:
        raise ConfigError("use `skyloom keys create NAME`, `skyloom keys list` or `skyloom keys revoke ID`")


def _address(flags: KeysFlags) -> str:
    if flags.database_url:
        return flags.database_url
    place = served_run(flags.workspace)
    return ServeConfig.of_run(place.root, tracking_uri=place.tracking_uri).database_url


def _listing(rows: Sequence[ApiKey]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "name", "secret", "owner", "scopes", "made", "state"):
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    for row in rows:
        table.add_row(
            row.id,
            row.name,
            row.hint,
            "itself" if row.owner == row.id else row.owner,
            " ".join(row.scopes),
            _day(row.created_s),
            _state(row),
        )
    return table


def _state(row: ApiKey) -> str:
    if row.revoked_s is not None:
        return f"revoked {_day(row.revoked_s)}"
    if row.expires_s is None:
        return "live"
    return f"{'live until' if row.expires_s > time.time() else 'expired'} {_day(row.expires_s)}"


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")
