"""The outermost layer of the API: a request id on each reply, bounded bodies, and no reply outside the envelope."""

import json
import logging
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.bodies import (
    SLOWEST_BYTES_PER_S,
    Body,
    BodyLimits,
    BodyTooLargeError,
    BodyTooSlowError,
    TooManyBodiesError,
)
from serving.api.errors import envelope, envelope_for_status
from serving.store.trouble import is_full, is_out_of_reach
from serving.tracing import PARENT, context_of, tracer

_log = logging.getLogger(__name__)


SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
"""On every reply: what comes from here is data, and no browser may run or frame it."""


BROKEN = "The server had an error while processing your request. Report the x-request-id."
OUT_OF_REACH = "The server's database does not answer at the moment; try again in a few seconds."
BUSY = "The server has as many uploads in hand as it can hold; try again in a few seconds."
NO_SPACE_LEFT = "The server has no space left; nothing of this request was kept. Try again later."


class Guard:
    """ASGI middleware that stands before everything else, FastAPI's own error replies included."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, body_timeout_s: float) -> None:
        self._app = app
        self._limits = BodyLimits(max_bytes=max_body_bytes, timeout_s=body_timeout_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = context_of(Headers(scope=scope).get(PARENT, ""))
        with tracer.start_as_current_span(f"{scope['method']} {scope['path'][:100]}", context=parent):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = _Reply(send, request_id=f"req_{secrets.token_hex(16)}")
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdigit() or int(declared[:20]) > self._limits.max_bytes:
            await reply.fail(413 if declared.isdigit() else 400, self._too_large())
            return
        body = Body(receive, self._limits)
        try:
            await self._app(scope, body.receive, reply.send)
        except BodyTooLargeError:
            await reply.fail(413, self._too_large())
        except BodyTooSlowError:
            await reply.fail(408, self._too_slow())
        except TooManyBodiesError:
            await reply.fail(503, BUSY)
        except Exception as error:
            _log.exception("request %s failed: %s %s", reply.request_id, scope["method"], scope["path"])
            await reply.fail(*_trouble(error))
        finally:
            body.end()

    def _too_large(self) -> str:
        return f"The request body is larger than {self._limits.max_bytes} bytes or its length is not a number."

    def _too_slow(self) -> str:
        pace = f"{self._limits.timeout_s:g} s and {SLOWEST_BYTES_PER_S} bytes/s"
        return f"The request body came too slowly; it must come within {pace}. Send it again."


def _trouble(error: Exception) -> tuple[int, str]:
    """The status and what is told of an error that no route expected."""
    if is_full(error):
        return 507, NO_SPACE_LEFT
    return (503, OUT_OF_REACH) if is_out_of_reach(error) else (500, BROKEN)


class _Reply:
    """One reply on its way out; an error that is not JSON becomes an envelope."""

    def __init__(self, send: Send, *, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self._started = False
        self._replaced = False

    async def send(self, message: Message) -> None:
        """Passes a message on, with the request id on its head."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if message["status"] >= 400 and headers.get("content-type") != "application/json":
                self._replaced = True
                length = headers.get("content-range")  # of a 416: how long the file is
                await self._send_error(message["status"], envelope_for_status(message["status"]), length)
                return
            self._started = True
            headers["x-request-id"] = self.request_id
            headers.update(SECURITY_HEADERS)
        if not self._replaced:
            await self._send(message)

    async def fail(self, status: int, message: str) -> None:
        """Answers with an error, unless the reply is under way; then only cutting it short is honest."""
        if self._started or self._replaced:
            raise RuntimeError(f"request {self.request_id} failed after its reply had begun")
        code = envelope_for_status(status)["error"]["code"]
        await self._send_error(status, envelope(status, message, code=code))

    async def _send_error(self, status: int, body: dict[str, object], content_range: str | None = None) -> None:
        payload = json.dumps(body).encode()
        self._started = True
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
        if status == 408:  # the rest of the body may come yet, and nobody will read it
            headers.append((b"connection", b"close"))
        if content_range is not None:
            headers.append((b"content-range", content_range.encode()))
        headers.append((b"x-request-id", self.request_id.encode()))
        headers += [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": payload})
