"""Delivers events to webhook endpoints: at least once, signed, tried again for a day; any number may run at once."""

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import httpx
from sqlalchemy import delete, select, update

from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.tables import Delivery, WebhookEndpoint
from serving.store.webhooks import signed_headers
from serving.trust.outgoing import ForbiddenAddressError, post

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
CLAIM_S = 60.0  # a courier that died with a delivery in hand has it tried again after this
PAUSES_S = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)  # a day in all, as Standard Webhooks advises


class Errand(NamedTuple):
    """One delivery in hand."""

    delivery: Delivery
    endpoint: WebhookEndpoint


class Courier:
    """Delivers what is due."""

    def __init__(self, config: ServeConfig, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def run_one(self) -> bool:
        """Whether something was due; it is delivered, or due again later, or given up now.

        Several threads may call it: each owner has one of them at most, so that slow endpoints delay their own alone.
        """
        with self._lock:
            errand = self._claim()
            if errand is None:
                return False
            self._busy.add(errand.endpoint.owner)
        try:
            self._deliver(errand)
        finally:
            with self._lock:
                self._busy.discard(errand.endpoint.owner)
        return True

    def _deliver(self, errand: Errand) -> None:
        try:
            status = send(errand.endpoint, errand.delivery, self._config, self._clock())
        except (httpx.HTTPError, ForbiddenAddressError) as error:
            self._settle(errand, repr(error))
        else:
            self._settle(errand, None if 200 <= status < 300 else f"status {status}")

    def _claim(self) -> Errand | None:
        now = self._clock()
        due = (
            select(Delivery.id)
            .join(WebhookEndpoint, WebhookEndpoint.id == Delivery.endpoint_id)
            .where(Delivery.next_try_s <= now, WebhookEndpoint.owner.not_in(self._busy))
            .order_by(Delivery.next_try_s)
            .limit(1)
            .with_for_update(skip_locked=True, of=Delivery)
            .scalar_subquery()
        )
        with self._database.write() as session:
            taken = {"attempts": Delivery.attempts + 1, "next_try_s": now + CLAIM_S}
            mine = session.scalar(update(Delivery).where(Delivery.id == due).values(taken).returning(Delivery))
            endpoint = None if mine is None else session.get(WebhookEndpoint, mine.endpoint_id)
        return None if mine is None or endpoint is None else Errand(mine, endpoint)

    def _settle(self, errand: Errand, failure: str | None) -> None:
        delivery, attempts = errand.delivery, errand.delivery.attempts
        this = Delivery.id == delivery.id
        with self._database.write() as session:
            if failure is None:
                session.execute(delete(Delivery).where(this))
                return
            logger.warning("%s to %s, attempt %d: %s", delivery.id, errand.endpoint.id, attempts, failure)
            later = self._clock() + PAUSES_S[attempts - 1] if attempts <= len(PAUSES_S) else None
            session.execute(update(Delivery).where(this).values(next_try_s=later))


def send(endpoint: WebhookEndpoint, delivery: Delivery, config: ServeConfig, now: float) -> int:
    """The status that an endpoint answers an event with.

    Raises:
        ForbiddenAddressError: its address may not be called (any more).
        httpx.HTTPError: it does not answer.
    """
    event = {
        "id": delivery.id,
        "object": "event",
        "created_at": int(delivery.created_s),
        "type": delivery.type,
        "data": {"id": delivery.job_id},
    }
    body = json.dumps(event).encode()
    headers = signed_headers(endpoint, delivery.id, body, now)
    return post(endpoint.url, body, headers, allowed=config.webhook_hosts, timeout_s=TIMEOUT_S)
