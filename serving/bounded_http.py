"""HTTP as Serve's proxy should speak it: heads bounded in time and size, bodies no faster than they are passed on.

uvicorn waits for a head for ever and keeps all of it, and waits for ever for a client that reads nothing of its reply;
Serve's proxy takes a body as fast as it comes and holds what the ingress has not yet seen, or the client not yet read.
The setting below makes the proxy call `install` when it starts.
"""

from asyncio import AbstractEventLoop, TimerHandle, Transport

import uvicorn.config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 20.0
READ_TIMEOUT_S = 60.0  # for the next 48 KiB of a reply, which is what asyncio waits for before it takes more
MAX_HEAD_BYTES = 65_536  # as much as h11, uvicorn's other parser, allows
BODY_BYTES_PER_S = 16 * 2**20
PROXY_ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.bounded_http.install"}


class PacedFlow(FlowControl):
    """Flow control that holds a sender back for a while, and cuts off a reader that is stuck, whoever asks."""

    _due: TimerHandle | None = None

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        super().__init__(transport)
        self._loop = loop
        self._is_held = False
        self._is_wanted = False

    def pause_writing(self) -> None:
        """What is to go out has piled up: the client has a while to take some of it."""
        super().pause_writing()
        if self._due is None:
            self._due = self._loop.call_later(READ_TIMEOUT_S, self._transport.abort)

    def resume_writing(self) -> None:
        """The client has taken most of it, or is gone."""
        super().resume_writing()
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def hold(self, pause_s: float) -> None:
        """Reads nothing for so long."""
        self.pause_reading()
        if not self._is_held:
            self._is_held = True
            self._loop.call_later(pause_s, self._release)

    def resume_reading(self) -> None:
        """Reads on, once the pause is over."""
        self._is_wanted = self._is_held
        if not self._is_held:
            super().resume_reading()

    def _release(self) -> None:
        self._is_held = False
        if self._is_wanted and not self._transport.is_closing():
            self.resume_reading()


class BoundedHttp(HttpToolsProtocol):
    """HTTP as uvicorn speaks it; a connection whose next head is late or too large is closed without a word."""

    _due: TimerHandle | None = None
    _num_idle_bytes = 0
    """What came since a head was whole or a piece of a body was there: an unfinished head, or trailers."""

    _num_body_bytes = 0
    """Of the piece that is being read."""

    def connection_made(self, transport: Transport) -> None:
        """A client is there, and says nothing yet."""
        super().connection_made(transport)
        self.flow = self._pace = PacedFlow(transport, self.loop)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what came, unless a head has grown too large; waits as long as a body of that size should take."""
        self._num_idle_bytes += len(data)
        self._num_body_bytes = 0
        super().data_received(data)
        if self._num_idle_bytes > MAX_HEAD_BYTES:
            self.transport.close()
        elif self._num_body_bytes and not self.transport.is_closing():
            self._pace.hold(self._num_body_bytes / BODY_BYTES_PER_S)

    def on_message_begin(self) -> None:
        """The first byte of a head has come."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stop_expecting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body has come; how many may is for the API to say."""
        self._num_idle_bytes = 0
        self._num_body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._stop_expecting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The reply is out; the rest of a body that was refused is thrown away for a while, so that it is read."""
        super().on_response_complete()
        if self.cycle.more_body:
            self._expect_head()

    def _expect_head(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _stop_expecting(self) -> None:
        self._num_idle_bytes = 0
        if self._due is not None:
            self._due.cancel()
            self._due = None


def install() -> list[object]:
    """Makes every server that starts in this process speak it; no middleware, which Serve asks for."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHttp.__name__}"
    return []
