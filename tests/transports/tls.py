"""Certificates for test servers, good and faulty ones."""

import datetime
import ssl
import tempfile
from pathlib import Path

import trustme

from opchat_transports.testing import Close, Script, Write

__all__ = ["FAULTS", "IDN", "NAME", "certificate", "tls_server", "trusting", "without_close_notify"]

NAME = "site.example"  # only proxies have this name
IDN = "xn--bcher-kva.example"
FAULTS = {"wrong name": "Hostname mismatch", "expired": "has expired", "self-signed": "self-signed certificate"}
"""Faulty certificates, and OpenSSL's words for each fault."""


def tls_server(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's context for these names, by default "localhost"."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names or ("localhost",)).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def certificate(kind: str, authority: trustme.CA) -> ssl.SSLContext:
    """A server's context whose certificate is "good" or one of `FAULTS`."""
    match kind:
        case "good":
            return tls_server(authority, "localhost", NAME, IDN, "::1")
        case "wrong name":
            return tls_server(authority, "other.example")
        case "expired":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            now = datetime.datetime.now(datetime.UTC)
            days = datetime.timedelta(days=1)
            leaf = authority.issue_cert("localhost", NAME, not_before=now - 2 * days, not_after=now - days)
            leaf.configure_cert(context)
            return context
    itself = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        itself.cert_pem.write_to_path(f"{folder}/cert")
        itself.private_key_pem.write_to_path(f"{folder}/key")
        context.load_cert_chain(Path(folder, "cert"), Path(folder, "key"))
    return context


def without_close_notify(*pieces: bytes) -> Script:
    """End the connection without close_notify, as an attacker who cuts it would."""

    return Write(b"".join(pieces)), Close(notify=False)
