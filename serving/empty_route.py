"""A route that does nothing, behind a running server's own proxy: what the API's routes are measured against."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from ray import serve

from serving.app import INGRESS_OPTIONS, Server


@serve.deployment(name="empty")
@serve.ingress()
class Empty:
    """An ingress whose one route takes the same body and does nothing with it."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = FastAPI()

        @app.post("/nothing")
        async def nothing(_body: dict[str, Any]) -> dict[str, str]:
            return {}

        return app


@contextmanager
def empty_route(server: Server) -> Iterator[str]:
    """The address of a route that does nothing, behind the server's own proxy."""
    serve.run(Empty.options(ray_actor_options=INGRESS_OPTIONS).bind(), name="empty", route_prefix="/empty")
    yield f"{server.config.url}/empty/nothing"
    serve.delete("empty")
