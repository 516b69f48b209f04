"""Request heads on their way in, bounded in time and size: uvicorn waits for them for ever and keeps all that comes.

Serve's proxy reads them, before anything of ours is asked; the setting below makes it call `install` when it starts.
"""

from asyncio import TimerHandle, Transport

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 20.0
MAX_HEAD_BYTES = 65_536  # as much as h11, uvicorn's other parser, allows
PROXY_ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.request_heads.install"}


class BoundedHeads(HttpToolsProtocol):
    """HTTP as uvicorn speaks it; a connection whose next head is late or too large is closed without a word."""

    _due: TimerHandle | None = None
    _num_idle_bytes = 0
    """What came since a head was whole or a piece of a body was there: an unfinished head, or trailers."""

    def connection_made(self, transport: Transport) -> None:
        """A client is there, and says nothing yet."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what came, unless a head has grown too large."""
        self._num_idle_bytes += len(data)
        super().data_received(data)
        if self._num_idle_bytes > MAX_HEAD_BYTES:
            self.transport.close()

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
    """Makes every server that starts in this process bound its heads; no middleware, which Serve asks for."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHeads.__name__}"
    return []
