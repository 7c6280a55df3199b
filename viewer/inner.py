"""viser's server behind the gate: it answers only requests that carry the secret, which the gate adds to them."""

import contextlib
import hmac
import io
import logging
from collections.abc import Iterator
from typing import Any

from blocknerf.errors import RunError
from viewer.auth_proxy import LOOPBACK, PASS

SERIES = "1.1."
"""Of viser: what its version begins with. Handlers and messages are used here that it may rename in another series."""


def import_viser() -> Any:
    """The package viser.

    Raises:
        RunError: it is not installed, or of another series.
    """
    try:
        import viser
    except ImportError:
        raise RunError("view: needs viser; install it with: pip install 'viser==1.1.*'") from None
    if not viser.__version__.startswith(SERIES):
        raise RunError(f"view: viser {viser.__version__} is not {SERIES}*; run: pip install 'viser=={SERIES}*'")
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # a visitor's broken message ends that visit, no more
    return viser


def open_inner(secret: str) -> Any:
    """A `viser.ViserServer` on a port of this machine, which answers 403 to every request without the secret.

    Without that, any process of this machine, and any web page open in a browser on it, could ask the port.

    Raises:
        RunError: viser is not installed, of another series, or does not ask for the secret.
    """
    viser = import_viser()
    with contextlib.redirect_stdout(io.StringIO()), _guarded(secret) as guarded:  # it prints the inner address
        server = viser.ViserServer(host=LOOPBACK, port=0, label="blocknerf", verbose=False)
    if not guarded:
        server.stop()
        raise RunError(f"view: viser {viser.__version__} opened its port unguarded; run: pip install 'viser==1.1.1'")
    _disable_share_url(server)
    return server


def stop_inner(server: Any) -> None:
    """Stop the server without a word."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


@contextlib.contextmanager
def _guarded(secret: str) -> Iterator[list[int]]:
    """Have the servers of websockets that open meanwhile ask for the secret; gives their ports.

    websockets lets a server check requests (`process_request`), but viser passes its own check and no other.
    """
    from websockets.asyncio import server as module

    serve, opened = module.serve, list[int]()

    def guarded_serve(handler: Any, host: str, port: int, *, process_request: Any = None, **options: Any) -> Any:
        def check(connection: Any, request: Any) -> Any:
            given = request.headers.get_all(PASS)
            if len(given) != 1 or not hmac.compare_digest(given[0].encode(), secret.encode()):
                return connection.respond(403, "Only the gate speaks to this port.\n")
            return process_request(connection, request) if process_request else None

        opened.append(port)
        return serve(handler, host, port, process_request=check, **options)

    module.serve = guarded_serve  # type: ignore[assignment, misc]
    try:
        yield opened
    finally:
        module.serve = serve  # type: ignore[misc]


def _disable_share_url(server: Any) -> None:
    """Visitors may not ask for a public tunnel to the server, nor have it repeat to others what they say of forms."""
    from viser import _messages

    for message in (_messages.ShareUrlRequest, _messages.ShareUrlDisconnect, _messages.GuiFormDirtyMessage):
        server._websock_server.unregister_handler(message)
