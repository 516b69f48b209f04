"""Where a Serve replica's own gRPC port listens: on the address of its node, since Ray opens it on every one.

Ray has no setting for it (2.60). Its token guards the port, but nothing of ours should answer a stranger at all.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from ray.util import get_node_ip_address

OPENER = "add_port_to_grpc_server"
EVERY_ADDRESS = "[::]"


def listen_on_node_address() -> None:
    """Call it in the `__init__` of a deployment, which runs before Serve opens the port.

    Other replicas find the port by the node's address, so they reach it as before.
    """
    serve_replica = importlib.import_module("ray.serve._private.replica")
    open_port = getattr(serve_replica, OPENER)
    if not isinstance(open_port, functools.partial):
        setattr(serve_replica, OPENER, functools.partial(_open_on_node, open_port))


def _open_on_node(open_port: Callable[[Any, str], int], server: object, address: str) -> int:
    node = get_node_ip_address()
    host = f"[{node}]" if ":" in node else node
    return open_port(server, address.replace(EVERY_ADDRESS, host))
