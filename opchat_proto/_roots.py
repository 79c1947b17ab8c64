"""The site's REST root: where a Link field names it, and advice where the given one seems wrong (WIRE 2)."""

from ._http import Endpoint
from ._session import Session

__all__: list[str] = []

REST_LINK = "https://api.w.org/"
"""The relation of the REST root in a Link field, and in a link element."""

_NO_REST = "no REST API here; with plain permalinks the root is {}index.php?rest_route="
# Why a question can need a nonce although start_session is missing (WIRE 2.1, 2.5).
_OTHER_ROOT = "versions up to 3.0.2 know start_session only under another root: {}"
_IN_PAGE = "the plugin has no start_session: for versions 2.0.1 to 2.4.3 the nonce is in the site's page"
NOT_BY_PASSWORD = "; an application password gets no nonce there: sign in with a browser's cookies"


def other_root(endpoint: Endpoint, named: str | None) -> str:
    """The end of a detail if the site has `named` another root than the endpoint's, else ""."""
    own = endpoint.origin + endpoint.root.rstrip("/")
    # Behind a proxy that terminates TLS, a site may name itself with http: that is the same root.
    if named is None or named.rstrip("/") in (own, own.replace("https:", "http:", 1)):
        return ""
    return f"; the site names another REST root: {named}"


def no_rest(endpoint: Endpoint) -> str:
    """Advice for a page that came instead of a response of the REST API."""
    return _NO_REST.format(endpoint.origin + endpoint.site)


def explain_missing(endpoint: Endpoint, session: Session | None) -> str:
    """Why a nonce was refused, on a site without start_session."""
    path, _, query = endpoint.root.partition("?")
    if query and path.endswith("/"):
        return _OTHER_ROOT.format(f"{endpoint.origin}{path}index.php?{query}")
    return _IN_PAGE + (NOT_BY_PASSWORD if session is not None and session.authorization else "")
