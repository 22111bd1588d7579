"""HTTP requests as registries want them: TLS by file, proxies, redirects that tell no secrets."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

from cored.archive.jobs import Tls
from cored.errors import FailedPrecondition

__all__ = ["Body", "Connections", "reason", "shown"]

Body = bytes | IO[bytes] | None
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HOPS = 8
# what another host may know: the shape of the request, nothing of who asks
_HARMLESS = frozenset(
    {
        "accept", "accept-encoding", "range", "user-agent",
        "content-type", "content-length", "content-range",
    }
)  # fmt: skip
_LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|::1")
_QUERY = re.compile(r"\?[^\s'\")>,]+")
_USER = re.compile(r"//[^/@\s]+@")
_POOL = re.compile(r"^.*?\b(?:HTTPS?Connection(?:Pool)?\([^)]*\)|object at 0x[0-9a-f]+>): ")
_LONG_PATH = 1000


class Connections:
    """Open connections, kept by how their servers are known. Safe in several threads."""

    def __init__(self, size: int = 4) -> None:
        self._size = size
        self._pools: dict[tuple[object, ...], urllib3.PoolManager] = {}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: Body = None,
        tls: Tls,
        connect: float,
        read: float,
    ) -> urllib3.BaseHTTPResponse:
        """One request, redirects followed; its body is not read yet.

        A host that we are redirected to gets neither ``headers`` with secrets nor certificates. A
        ``body`` that is a file is sent from where it stands, and again from there if need be.
        FailedPrecondition for a redirect that may not be followed; urllib3's HTTPError.
        """
        start = body.tell() if body is not None and not isinstance(body, bytes) else 0
        first = url
        for _ in range(_HOPS):
            answer = self._pool(url, tls, connect, read).request(
                method, url, headers=dict(headers), body=body,
                preload_content=False, decode_content=False, redirect=False, retries=False,
            )  # fmt: skip
            location = answer.headers.get("Location", "")
            if answer.status not in _REDIRECTS or not location:
                return answer
            if method not in ("GET", "HEAD") and answer.status not in (307, 308):
                return answer
            answer.drain_conn()
            goal = urljoin(url, location)
            if urlsplit(goal).scheme not in ("http", "https") or (
                url.startswith("https:") and not goal.startswith("https:")
            ):
                raise FailedPrecondition(
                    f"{shown(first)}: redirects to {shown(goal)}, which may not be followed"
                )
            if _origin(goal) != _origin(url):
                headers = {k: v for k, v in headers.items() if k.lower() in _HARMLESS}
                tls = Tls(tls.authorities, (), tls.insecure)
            if body is not None and not isinstance(body, bytes):
                body.seek(start)
            url = goal
        raise FailedPrecondition(f"{shown(first)}: redirects more than {_HOPS} times")

    def close(self) -> None:
        """Close what is idle."""
        for pool in self._pools.values():
            pool.clear()
        self._pools.clear()

    def _pool(self, url: str, tls: Tls, connect: float, read: float) -> urllib3.PoolManager:
        proxy = _proxy(url)
        secure = url.startswith("https:")
        key = (tls, _times(tls) if secure else (), proxy, connect, read, secure)
        found = self._pools.get(key)
        if found is None:
            found = self._pools[key] = self._made(url, tls, proxy, connect, read)
        return found

    def _made(
        self, url: str, tls: Tls, proxy: str, connect: float, read: float
    ) -> urllib3.PoolManager:
        if tls.insecure:
            # whoever configured it knows
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        settings = {
            "timeout": urllib3.Timeout(connect=connect, read=read),
            "maxsize": self._size,
            "num_pools": 8,
            "blocksize": 1 << 18,
            "ssl_context": _context(tls) if url.startswith("https:") else None,
            # said again: urllib3 would turn the context's off and on by itself
            "cert_reqs": "CERT_NONE" if tls.insecure else "CERT_REQUIRED",
            "assert_hostname": False if tls.insecure else None,
        }
        if not proxy:
            return urllib3.PoolManager(**settings)  # type: ignore[arg-type]
        parts = urlsplit(proxy)
        secret = f"{parts.username}:{parts.password or ''}" if parts.username else None
        return urllib3.ProxyManager(
            _USER.sub("//", proxy),
            proxy_headers=urllib3.make_headers(proxy_basic_auth=secret) if secret else None,
            **settings,  # type: ignore[arg-type]
        )


def shown(url: str) -> str:
    """A URL without what may be secret in it: the user, and the query with its signatures."""
    return _QUERY.sub("?…", _USER.sub("//", url))[:_LONG_PATH]


def reason(error: BaseException) -> str:
    """Why a request failed, in a few words and without secrets."""
    inner = getattr(error, "reason", None)
    while isinstance(inner, HTTPError) and getattr(inner, "reason", None):
        inner = inner.reason  # type: ignore[attr-defined]
    told = inner if isinstance(inner, BaseException) else error
    if isinstance(told, ProtocolError) and len(told.args) == 2:
        # (what happened, why), and the first is enough where it says why as well
        first, cause = told.args
        told = first if ":" in str(first) else cause
    text = _POOL.sub("", str(told))
    text, inside = re.subn(r"^.*?\(\[Errno -?\d+\]\s*", "", text)
    text = text.removesuffix(")") if inside else re.sub(r"^.*?\[Errno -?\d+\]\s*", "", text)
    return shown(text) or type(error).__name__


def _times(tls: Tls) -> tuple[int, ...]:
    """When the files changed last: a certificate that was renewed is a new one."""
    files = [*tls.authorities, *(file for pair in tls.certificates for file in pair)]
    try:
        return tuple(Path(file).stat().st_mtime_ns for file in files)
    except OSError as error:
        raise FailedPrecondition(
            f"TLS file {error.filename}: {error.strerror}", hint="see hosts.toml"
        ) from error


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        for file in tls.authorities:
            context.load_verify_locations(file)
        # of several with the same kind of key the last one loaded is used
        for certificate, key in reversed(tls.certificates):
            context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        files = ", ".join([*tls.authorities, *(c for c, _ in tls.certificates)])
        raise FailedPrecondition(
            f"TLS files {files}: cannot be used: {error.strerror or error}",
            hint="PEM, keys without a passphrase",
        ) from error
    return context


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _proxy(url: str) -> str:
    """What HTTP_PROXY, HTTPS_PROXY and NO_PROXY say; never one for loopback, as Go has it."""
    parts = urlsplit(url)
    proxies = getproxies()
    if not proxies or _LOOPBACK.fullmatch(parts.hostname or ""):
        return ""
    if proxy_bypass(parts.netloc):
        return ""
    found = proxies.get(parts.scheme, "")
    return found if not found or "://" in found else f"http://{found}"
