"""The durable table of API keys. A secret is shown once, when it is made; after that only its hash is known."""

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from sqlalchemy import or_, select, update

from serving.store.admission import Quota
from serving.store.database import Database
from serving.store.tables import ApiKey

Scope: TypeAlias = Literal["read", "write", "metrics"]
SCOPES: tuple[Scope, ...] = ("read", "write")
"""What a key may do unless it is made otherwise; metrics tell of everybody's jobs, so they are the operator's alone."""
PREFIX = "sk-skyloom-"
_ANY = select(ApiKey.id).limit(1)


class NewKey(NamedTuple):
    """A key just made, with the secret that nobody can read again."""

    secret: str
    key: ApiKey


class KeyTable:
    """The API keys of one server."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._was_made = False

    def create(
        self,
        name: str,
        *,
        owner: str = "",
        scopes: Sequence[Scope] = SCOPES,
        lifetime_s: float | None = None,
        quota: Quota | None = None,
    ) -> NewKey:
        """A new key; keys of the same owner see the same videos, and a key without owner is its own."""
        secret = PREFIX + secrets.token_urlsafe(32)
        name_of_key = f"key_{secrets.token_hex(8)}"
        now = self._clock()
        key = ApiKey(
            id=name_of_key,
            name=name,
            owner=owner or name_of_key,
            secret_sha256=_hash(secret),
            hint=f"...{secret[-4:]}",
            scopes=list(scopes),
            quota=(quota or Quota()).model_dump(exclude_none=True),
            created_s=now,
            expires_s=None if lifetime_s is None else now + lifetime_s,
        )
        with self._database.write() as session:
            session.add(key)
        return NewKey(secret, key)

    def list(self) -> Sequence[ApiKey]:
        """All keys, the oldest first, revoked and expired ones too."""
        with self._database.read() as session:
            return session.scalars(select(ApiKey).order_by(ApiKey.created_s, ApiKey.id)).all()

    def revoke(self, key_id: str) -> bool:
        """Whether there was such a live key; from now on it is refused."""
        live = (ApiKey.id == key_id, ApiKey.revoked_s.is_(None))
        with self._database.write() as session:
            statement = update(ApiKey).where(*live).values(revoked_s=self._clock()).returning(ApiKey.id)
            return session.scalar(statement) is not None

    def find(self, secret: str) -> ApiKey | None:
        """The key with that secret, when it is neither revoked nor expired."""
        in_time = or_(ApiKey.expires_s.is_(None), ApiKey.expires_s > self._clock())
        # looked up by hash: how long it takes says nothing about any secret
        query = select(ApiKey).where(ApiKey.secret_sha256 == _hash(secret), ApiKey.revoked_s.is_(None), in_time)
        with self._database.read() as session:
            return session.scalars(query).one_or_none()

    def any_made(self) -> bool:
        """Whether there ever was a key: revoking the last one must not open the server."""
        self._was_made = self._was_made or self._database.first(_ANY) is not None
        return self._was_made


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
