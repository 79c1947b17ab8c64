"""The site's REST root: where a Link field names it, and advice where the given one seems wrong (WIRE 2)."""

from dataclasses import replace

from ._events import Broken
from ._http import Endpoint
from ._session import Session, hide_login

__all__: list[str] = []

REST_LINK = "https://api.w.org/"
"""The relation of the REST root in a Link field, and in a link element."""

_NO_REST = "; no REST API here; with plain permalinks the root is {}index.php?rest_route="
# Why a question can need a nonce although start_session is missing (WIRE 2.1, 2.5).
_OTHER_ROOT = "versions up to 3.0.2 know start_session only under another root: {}"
_IN_PAGE = "the plugin has no start_session: for versions 2.0.1 to 2.4.3 the nonce is in the site's page"
_NOT_BY_PASSWORD = "; an application password gets no nonce there: sign in with a browser's cookies"


def other_root(endpoint: Endpoint, named: str | None) -> str:
    """The end of a detail if the site has `named` another root than the endpoint's, else ""."""
    own = endpoint.origin + endpoint.root.rstrip("/")
    # Behind a proxy that terminates TLS, a site may name itself with http: that is the same root.
    if named is None or named.rstrip("/") in (own, own.replace("https:", "http:", 1)):
        return ""
    return f"; the site names another REST root: {named}"


def explain_start(answer: Broken, endpoint: Endpoint, session: Session, named: str | None) -> Broken:
    """A failure of start_session, with advice if the site refuses a password, or has no REST API under this root."""
    detail = f"start_session: {hide_login(session, answer.detail)}"
    if session.authorization and answer.status in (401, 403):  # 2.9.0 and 2.9.1 refuse everybody
        detail += _NOT_BY_PASSWORD
    is_page = answer.raw.startswith("<") and answer.status in (None, 404)
    if is_page and named is None and "?" not in endpoint.root:
        detail += _NO_REST.format(endpoint.origin + endpoint.site)
    return replace(answer, detail=detail)


def explain_missing(refusal: Broken, endpoint: Endpoint, session: Session | None, named: str | None) -> Broken:
    """The refusal of a question without a nonce, with advice, on a site without start_session."""
    path, _, query = endpoint.root.partition("?")
    if query and path.endswith("/"):
        why = _OTHER_ROOT.format(f"{endpoint.origin}{path}index.php?{query}")
    else:
        why = _IN_PAGE + (_NOT_BY_PASSWORD if session is not None and session.authorization else "")
    return replace(refusal, detail=f"{refusal.detail}; {why}{other_root(endpoint, named)}")
