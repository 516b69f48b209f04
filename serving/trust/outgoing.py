"""The only way out of the server: a POST to an address that the operator allows, never to one inside the network.

A name is resolved once, and the connection goes to the address that was checked: a name that answers otherwise the next
moment gains nothing. No redirect is followed, no proxy of the environment is asked, no reply is read.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import httpx

from model.errors import ConfigError

ANY_HOST = "*"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_HOST = re.compile(r"[\w.:-]+", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenAddressError(ConfigError):
    """An address that this server must not call."""


class Target(NamedTuple):
    """An address that may be called, and where the connection goes."""

    url: httpx.URL
    host: str
    address: Address


def check_url(text: str, allowed: Sequence[str]) -> httpx.URL:
    """The address, as far as its text tells whether it may be called.

    Raises:
        ForbiddenAddressError: it may not.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise ForbiddenAddressError(f"{text[:200]!r} is not an address: {error}") from error
    if url.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(url.host) or url.userinfo:
        raise ForbiddenAddressError(f"{text[:200]!r} is no https address without user and password")
    if _is_named(url, allowed):
        return url
    if ANY_HOST not in allowed:
        raise ForbiddenAddressError(
            f"{url.host!r} is not among the hosts that this server may call; its operator can name it in webhook_hosts"
        )
    if url.scheme != "https" or _port(url) != 443:
        raise ForbiddenAddressError(f"{text[:200]!r} must be https on port 443, unless the operator names its host")
    return url


def resolve(url: httpx.URL, allowed: Sequence[str]) -> Target:
    """Where a call to the address goes.

    Raises:
        ForbiddenAddressError: the name is unknown, or one of its addresses is not a public one.
    """
    try:
        found = socket.getaddrinfo(url.host, _port(url), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ForbiddenAddressError(f"{url.host!r} has no address: {error}") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    hidden = [] if _is_named(url, allowed) else [address for address in addresses if not is_public(address)]
    if hidden or not addresses:
        raise ForbiddenAddressError(f"{url.host!r} stands for {hidden[:1]}, which is not a public address")
    return Target(url, url.host, addresses[0])


def is_public(address: Address) -> bool:
    """Whether an address, and any IPv4 address that is wrapped in it, belongs to the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def post(url: str, body: bytes, headers: Mapping[str, str], *, allowed: Sequence[str], timeout_s: float) -> int:
    """The status of the reply to a POST, which has so long in all: a reply may come one byte at a time.

    Raises:
        ForbiddenAddressError: the address may not be called.
        httpx.TransportError: it does not answer.
    """
    target = resolve(check_url(url, allowed), allowed)
    try:
        return asyncio.run(asyncio.wait_for(_status_of(target, body, headers, timeout_s), timeout_s))
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"no reply within {timeout_s:g} s") from error


async def _status_of(target: Target, body: bytes, headers: Mapping[str, str], timeout_s: float) -> int:
    literal = f"[{target.address}]" if target.address.version == 6 else str(target.address)
    pinned = target.url.copy_with(host=literal)
    host = target.url.netloc.decode()
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=timeout_s) as client,
        client.stream(
            "POST",
            pinned,
            content=body,
            headers={**headers, "host": host},
            extensions={"sni_hostname": target.host},
        ) as reply,
    ):
        return reply.status_code


def _port(url: httpx.URL) -> int:
    return url.port or _DEFAULT_PORTS[url.scheme]


def _is_named(url: httpx.URL, allowed: Sequence[str]) -> bool:
    return url.host in allowed or f"{url.host}:{_port(url)}" in allowed
