"""viser's server behind the proxy: it accepts only requests with the secret, which the proxy adds."""

import contextlib
import hmac
import io
import logging
import re
from collections.abc import Iterator
from typing import Any

from blocknerf.errors import RunError
from viewer.access import LOOPBACK

SERIES = "1.1."
"""Supported viser versions start with this. The viewer knows the names of its messages, which others may rename."""
SECRET_HEADER = "X-Blocknerf-Proxy"  # carries the secret that the inner server requires


def import_viser() -> Any:
    """Return the package viser.

    Raises:
        RunError: viser or aiohttp is not installed, or viser's version is not supported.
    """
    try:
        import aiohttp  # noqa: F401
        import viser
    except ImportError as error:
        package = {"aiohttp": "aiohttp>=3.14.5,<4"}.get(error.name or "", "viser==1.1.*")
        raise RunError(
            f"view: needs {re.split('[=>]', package)[0]}; install it with: pip install '{package}'"
        ) from None
    if not viser.__version__.startswith(SERIES):
        raise RunError(f"view: viser {viser.__version__} is not {SERIES}*; run: pip install 'viser=={SERIES}*'")
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # a malformed message ends that client's session only
    return viser


def open_inner(secret: str) -> Any:
    """Start a `viser.ViserServer` on a loopback port that responds 403 to every request without the secret.

    Otherwise any process on this machine, and any web page open in a browser on it, could connect to the port.

    Raises:
        RunError: viser is not installed, not supported, or does not check the secret.
    """
    viser = import_viser()
    with contextlib.redirect_stdout(io.StringIO()), _guarded(secret) as guarded_ports:  # viser prints the inner address
        server = viser.ViserServer(host=LOOPBACK, port=0, label="blocknerf", verbose=False)
    if not guarded_ports:
        server.stop()
        raise RunError(f"view: viser {viser.__version__} opened its port unguarded; run: pip install 'viser==1.1.1'")
    return server


def stop_inner(server: Any) -> None:
    """Stop the server without its console output."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


@contextlib.contextmanager
def _guarded(secret: str) -> Iterator[list[int]]:
    """Make websocket servers that are opened inside this context check the secret; yields their ports.

    websockets has a hook for this (`process_request`), but viser installs its own and offers no other.
    """
    from websockets.asyncio import server as module

    serve, ports = module.serve, list[int]()

    def guarded_serve(handler: Any, host: str, port: int, *, process_request: Any = None, **options: Any) -> Any:
        def check(connection: Any, request: Any) -> Any:
            values = request.headers.get_all(SECRET_HEADER)
            if len(values) != 1 or not hmac.compare_digest(values[0].encode(), secret.encode()):
                return connection.respond(403, "Only the proxy may use this port.\n")
            return process_request(connection, request) if process_request else None

        ports.append(port)
        return serve(handler, host, port, process_request=check, **options)

    module.serve = guarded_serve  # type: ignore[assignment, misc]
    try:
        yield ports
    finally:
        module.serve = serve  # type: ignore[misc]
