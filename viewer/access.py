"""Who may use the viewer: addresses, tokens, and requests that are refused before they reach viser."""

import contextlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from blocknerf.errors import RunError

LOOPBACK = "127.0.0.1"
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
# The path never starts with two slashes: a redirect to it would lead to another host.
TARGET = re.compile(r"/(?![/\\])[!-~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What decides whether a request is accepted."""

    method: str
    target: str
    """Path and query, as sent."""
    headers: tuple[tuple[str, str], ...]
    """Names and values of all headers."""

    def values(self, name: str) -> list[str]:
        """Return the values of all headers with a name, given in lower case."""
        return [value.strip() for key, value in self.headers if key.lower() == name]

    @property
    def is_upgrade(self) -> bool:
        """Whether the request upgrades to a websocket."""
        return any("websocket" in value.lower() for value in self.values("upgrade"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A plain-text response to a request that is not forwarded: an error, or a redirect."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


def authorize(request: Request, token: str | None, cookie: str) -> Refusal | None:
    """Return the response that refuses or redirects a request; None forwards it.

    `cookie` is the name of the cookie that holds the token.
    """
    hosts = [host.lower() for host in request.values("host")]
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]) or not TARGET.fullmatch(request.target):
        return Refusal(status=400, text="This is not a valid HTTP/1.1 request.\n")
    if request.method not in ("GET", "HEAD"):
        return Refusal(status=405, text="This server accepts only GET and HEAD.\n", headers={"Allow": "GET, HEAD"})
    origins = {origin.partition("://")[2].lower() for origin in request.values("origin")}
    if request.is_upgrade and origins - set(hosts):
        return Refusal(status=403, text="Pages of other sites may not use this viewer.\n")
    forbidden = Refusal(status=403, text="Open the whole URL that `blocknerf view` printed.\n")
    if token is None:
        # A foreign name that resolves to this machine (DNS rebinding): its pages could read the viewer's content.
        return None if is_loopback(HOST.sub(r"\1", hosts[0]).strip("[]")) else forbidden
    path, _, query = request.target.partition("?")
    if _contains(query.split("&"), f"token={token}"):
        rest = "&".join(part for part in query.split("&") if not part.startswith("token="))
        set_cookie = f"{cookie}={token}; HttpOnly; SameSite=Strict; Path=/"
        redirect = {"Set-Cookie": set_cookie, "Location": f"{path}{rest and '?'}{rest}"}
        return None if request.is_upgrade else Refusal(status=303, text="", headers=redirect)
    return None if _contains(_cookies(request), f"{cookie}={token}") else forbidden


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable from this machine only."""
    with contextlib.suppress(ValueError):
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    return False


def check_binding(host: str, token: str | None) -> None:
    """Raise if a public address has no token, or if a token is short or not URL-safe.

    Raises:
        RunError: The message names the option to change.
    """
    if token is None and not is_loopback(host):
        raise RunError(f"view: --host {host} is open to other machines; add --token, which visitors then need")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{8,}", token):
        raise RunError("view: --token is not 8 or more letters, digits, '-' and '_'; choose another")


def _cookies(request: Request) -> Iterator[str]:
    return (part.strip() for value in request.values("cookie") for part in value.split(";"))


def _contains(parts: Iterable[str], secret: str) -> bool:
    """Whether one of the parts equals the secret, compared in constant time."""
    return any(hmac.compare_digest(part.encode("utf-8", "surrogateescape"), secret.encode()) for part in parts)
