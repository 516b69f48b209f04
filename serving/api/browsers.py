"""What a web page may ask of a server that stands open on loopback: nothing, unless the page came from it.

A key travels in a header that no page can set for another site. Where no key is needed, a page from anywhere could post
to 127.0.0.1 (cross-site request forgery), or read through a name of its own that it points there (DNS rebinding).
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

from serving.api.errors import ApiError

READING = ("GET", "HEAD", "OPTIONS")
_FOREIGN_SITES = ("cross-site", "same-site")


def is_loopback(host: str | None) -> bool:
    """Whether a name or address reaches this machine only."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def refuse_foreign_pages(request: Request, *, on_loopback: bool) -> None:
    """Passes requests of programs and of the server's own pages.

    Raises:
        ApiError: 403 for a change that another site's page asks for, and for a server on loopback that is called by a
            name which is not loopback's.
    """
    if request.method not in READING and _is_of_another_site(request):
        message = "Pages of other sites may not change anything here. Make a key with `skyloom keys create NAME`."
        raise ApiError(403, message, code="cross_site_request")
    if on_loopback and not is_loopback(request.url.hostname):
        message = (
            f"This server has no API key and answers to localhost and 127.0.0.1 only, not to {request.url.hostname!r}. "
            "Make a key with `skyloom keys create NAME`."
        )
        raise ApiError(403, message, code="unknown_host")


def _is_of_another_site(request: Request) -> bool:
    origin = request.headers.get("origin")
    try:
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return True
    except ValueError:  # no address, so not ours
        return True
    return request.headers.get("sec-fetch-site") in _FOREIGN_SITES
