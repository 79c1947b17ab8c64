"""Choose the proxy: from the environment, by the same rules for every transport."""

from typing import Literal, TypeAlias
from urllib.request import getproxies_environment, proxy_bypass

from opchat_proto import Endpoint, Proxy

__all__ = ["ProxyLike", "choose_proxy"]

ProxyLike: TypeAlias = Proxy | str | None
"""A proxy or its URL; None for no proxy; "environment" for the environment variables."""

ENVIRONMENT: Literal["environment"] = "environment"


def choose_proxy(endpoint: Endpoint, proxy: ProxyLike) -> Proxy | None:
    """The proxy for this site.

    With "environment": `https_proxy` or `http_proxy` by the site's scheme, else
    `all_proxy`; in lower case first, then in capitals (but not HTTP_PROXY if
    REQUEST_METHOD is set, because a CGI client could have set it). No proxy for a
    host in `no_proxy`, a list of names (including their subdomains), name:port, or "*".
    These are the rules of Python's `urllib.request`.

    Raises `ValueError` for a URL that is not a proxy's, never showing credentials,
    and `TypeError` for any other type.
    """
    if proxy != ENVIRONMENT:
        if not isinstance(proxy, Proxy | str | None):
            raise TypeError(f"proxy: expected a Proxy, a str or None, got {type(proxy).__name__}")
        return Proxy.parse(proxy) if isinstance(proxy, str) else proxy
    variables = getproxies_environment()
    for scheme in (endpoint.scheme, "all"):
        url = variables.get(scheme)
        if url and not _is_bypassed(endpoint):
            try:
                return Proxy.parse(url)
            except ValueError as error:
                raise ValueError(f"{scheme}_proxy in the environment: {error}") from None
    return None


def _is_bypassed(endpoint: Endpoint) -> bool:
    # Twice: `proxy_bypass` takes a port only with a name, and an IPv6 address only without brackets.
    return any(bool(proxy_bypass(host)) for host in (f"{endpoint.host}:{endpoint.port}", endpoint.host))
