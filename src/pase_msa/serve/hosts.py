"""Which names of the server a request may use, against pages that point a name of their own at this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse

from pase_msa.errors import PaSEError, printable


def allowed_hosts(host: str, further: Sequence[str] = ()) -> list[str]:
    """Names that the Host header of a request may have: this machine's, the one that is listened on, and further ones.

    Args:
        host: the address that is listened on.
        further: names of the deployment; "*.example.org" stands for all below it, "*" for any.

    Errors:
        PaSEError: a name with a scheme, a port or a star elsewhere.
    """
    for name in further:
        plain = name.removeprefix("*.") if name != "*" else "any"
        if not plain or any(character in plain for character in "*/:@[] "):
            raise PaSEError(
                "--allowed-host takes a name without scheme and port, such as pase.example.org or *.example.org, "
                f"found {name!r}."
            )
    return list(dict.fromkeys(["localhost", host.lower(), *(name.lower() for name in further)]))


class HostCheck(TrustedHostMiddleware):
    """Starlette's check of the Host header, which lets addresses pass as well.

    A page that makes a browser take its own name for this machine sends that name. An address cannot be pointed
    elsewhere, so that a server on 0.0.0.0 can be reached by any of its addresses.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request; a name that is not allowed is refused with status 400."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        name = _name(Headers(scope=scope).get("host", ""))
        if _is_address(name):
            await self.app(scope, receive, send)
        elif not self._allowed(name):
            sentence = f"This server does not go by the name {printable(name, 100)!r}; add it with --allowed-host."
            await JSONResponse({"detail": sentence}, 400)(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _allowed(self, name: str) -> bool:
        return self.allow_any or any(
            name == pattern or (pattern.startswith("*.") and name.endswith(pattern[1:]))
            for pattern in self.allowed_hosts
        )


def same_origin(headers: Headers) -> bool:
    """Whether a request comes from a page of this server, or from no page at all.

    Browsers let any page open a WebSocket to any server, and name the page in the header Origin.
    """
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:
        return False


def _name(header: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
