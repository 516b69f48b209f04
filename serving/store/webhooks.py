"""The durable table of webhook endpoints, and the signature that tells their owners who calls (Standard Webhooks)."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import delete, func, select

from serving.store.admission import TooManyError
from serving.store.database import Database
from serving.store.tables import Delivery, WebhookEndpoint

SECRET_PREFIX = "whsec_"
MOST_ENDPOINTS = 32  # of one owner: each is told of every video, in the transaction that ends it
OVERLAP_S = 86_400.0  # how long an old secret still signs, when that is asked for


class WebhookTable:
    """The webhook endpoints of one server, each its owner's."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(self, owner: str, *, name: str, url: str, event_types: Sequence[str]) -> WebhookEndpoint:
        """A new endpoint with its secret.

        Raises:
            TooManyError: the owner has as many as anybody may have.
        """
        now = self._clock()
        endpoint = WebhookEndpoint(
            id=f"we_{secrets.token_hex(16)}",
            owner=owner,
            name=name,
            url=url,
            event_types=list(event_types),
            secret=_new_secret(),
            created_s=now,
            updated_s=now,
        )
        mine = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.owner == owner)
        with self._database.write() as session:
            if (session.scalar(mine) or 0) >= MOST_ENDPOINTS:
                raise TooManyError(f"There are {MOST_ENDPOINTS} webhook endpoints already; delete one first.")
            session.add(endpoint)
        return endpoint

    def get(self, endpoint_id: str, owner: str) -> WebhookEndpoint | None:
        """The owner's endpoint of that id, or None."""
        with self._database.read() as session:
            found = session.get(WebhookEndpoint, endpoint_id)
        return found if found is not None and found.owner == owner else None

    def list(self, owner: str) -> Sequence[WebhookEndpoint]:
        """The owner's endpoints, the newest first."""
        mine = select(WebhookEndpoint).where(WebhookEndpoint.owner == owner)
        with self._database.read() as session:
            return session.scalars(mine.order_by(WebhookEndpoint.created_s.desc(), WebhookEndpoint.id)).all()

    def update(self, endpoint: WebhookEndpoint, **changes: Any) -> WebhookEndpoint | None:
        """The endpoint with the changes, its time of change moved when there are any; None when it is gone by now.

        Nothing else of the row is written: somebody may be changing that.
        """
        mine = WebhookEndpoint.id == endpoint.id
        with self._database.write() as session:
            kept = session.scalar(select(WebhookEndpoint).where(mine).with_for_update())
            if kept is not None and any(getattr(kept, name) != value for name, value in changes.items()):
                for name, value in changes.items():
                    setattr(kept, name, value)
                kept.updated_s = self._clock()
        return kept

    def rotate(self, endpoint: WebhookEndpoint, *, keep_old: bool) -> WebhookEndpoint | None:
        """The endpoint with a new secret, or None when it is gone; the old secret may sign beside it for a day."""
        mine, now = WebhookEndpoint.id == endpoint.id, self._clock()
        with self._database.write() as session:
            kept = session.scalar(select(WebhookEndpoint).where(mine).with_for_update())
            if kept is not None:
                kept.old_secret, kept.old_secret_until_s = (kept.secret, now + OVERLAP_S) if keep_old else (None, None)
                kept.secret, kept.updated_s = _new_secret(), now
        return kept

    def delete(self, endpoint: WebhookEndpoint) -> None:
        """Forgets an endpoint, and what was on its way to it."""
        with self._database.write() as session:
            session.execute(delete(Delivery).where(Delivery.endpoint_id == endpoint.id))
            session.execute(delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint.id))


def signed_headers(endpoint: WebhookEndpoint, event_id: str, body: bytes, now: float) -> dict[str, str]:
    """The headers that `client.webhooks.verify_signature` of the SDK checks.

    Source: Standard Webhooks, https://www.standardwebhooks.com.
    """
    live = [endpoint.secret]
    if endpoint.old_secret and now < (endpoint.old_secret_until_s or 0):
        live.append(endpoint.old_secret)
    stamp = str(int(now))
    content = f"{event_id}.{stamp}.".encode() + body
    return {
        "content-type": "application/json",
        "user-agent": "skyloom-webhooks",
        "webhook-id": event_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{_signature(secret, content)}" for secret in live),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def _new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
