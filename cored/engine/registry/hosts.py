"""Which hosts serve a registry's name: ``hosts.toml`` and ``certs.d``, as containerd reads them.

A directory of directories: ``<root>/<host[:port]>/`` (or ``<host>_<port>_``, or ``_default`` for
all others) holds ``hosts.toml``, or docker's ``*.crt``, ``*.cert`` and ``*.key``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cored import log
from cored.archive.jobs import Tls
from cored.errors import InvalidArgument

__all__ = ["CAPABILITIES", "Host", "hosts_of"]

CAPABILITIES = frozenset({"pull", "resolve", "push"})
_LOOPBACK = re.compile(r"(localhost|127(?:\.\d+){3}|\[::1\])(?::(\d+))?")
_DIAL = 10.0
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
_KEYS = frozenset(
    {
        "capabilities", "ca", "client", "skip_verify", "header", "override_path",
        "dial_timeout", "server", "host",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Host:
    """One server; ``name`` is ``host[:port]``, ``path`` what its API is below (``/v2``).

    ``mirrors`` is the registry's name where this is somebody else who has its images. ``guess``:
    nobody said whether it speaks TLS. ``dial`` is the seconds to connect.
    """

    scheme: str
    name: str
    path: str = "/v2"
    capabilities: frozenset[str] = CAPABILITIES
    tls: Tls = field(default_factory=Tls)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    dial: float = _DIAL
    mirrors: str = ""
    guess: bool = False

    @property
    def base(self) -> str:
        return f"{self.scheme}://{self.name}{self.path}"


def hosts_of(registry: str, roots: Sequence[Path], scheme: str = "") -> tuple[Host, ...]:
    """The servers for a registry's name, in the order to be tried; the registry itself is last.

    ``scheme`` is for the registry where no file decides. InvalidArgument for a broken file.
    """
    place = _directory(registry, roots)
    if place is None:
        return (_registry(registry, scheme, Tls()),)
    try:
        text = (place / "hosts.toml").read_text(encoding="utf-8")
    except FileNotFoundError:
        return (_registry(registry, scheme, _dockers(place)),)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{place}/hosts.toml: cannot be read: {error}") from error
    try:
        table = tomllib.loads(text)
        return tuple(_read(table, place, registry, scheme))
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{place}/hosts.toml: {error}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{place}/hosts.toml: {error.message}", hint=error.hint) from error


def _directory(registry: str, roots: Sequence[Path]) -> Path | None:
    name, colon, port = registry.rpartition(":")
    names = [registry, "_default"]
    if colon and port.isdecimal():
        names.insert(0, f"{name}_{port}_")
    for root in roots:
        for each in names:
            if (root / each).is_dir():
                return root / each
    return None


def _read(table: Mapping[str, Any], place: Path, registry: str, scheme: str) -> list[Host]:
    mirrors = table.get("host", {})
    if not isinstance(mirrors, dict) or not all(isinstance(v, dict) for v in mirrors.values()):
        raise InvalidArgument("host: must be tables like [host.'https://mirror.example']")
    found = [_host(url, each, place, registry) for url, each in mirrors.items()]
    server = table.get("server", "")
    if not isinstance(server, str):
        raise InvalidArgument("server: must be a URL")
    if server:
        found.append(_host(server, table, place, registry))
        return found
    itself = _registry(registry, scheme, Tls())
    told = _host(itself.base, table, place, registry)
    plain = told.tls == Tls() and itself.tls.insecure
    found.append(
        Host(
            itself.scheme,
            itself.name,
            itself.path,
            told.capabilities,
            itself.tls if plain else told.tls,
            told.headers,
            told.dial,
            guess=itself.guess,
        )
    )
    return found


def _host(url: str, table: Mapping[str, Any], place: Path, registry: str) -> Host:
    if table.keys() - _KEYS:
        # the files are containerd's too, and a newer one may know more
        unknown = sorted(table.keys() - _KEYS)
        log.get("registry").warning("hosts.toml: unknown keys", place=str(place), keys=unknown)
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"host {url!r}: is not a URL with http or https")
    if "@" in parts.netloc or parts.query:
        raise InvalidArgument(
            f"host {parts.hostname}: its URL has a user or a query", hint="log in instead"
        )
    path = parts.path.rstrip("/")
    if not _flag(table, "override_path") and not path.endswith("/v2"):
        path += "/v2"
    same = parts.netloc == registry or (registry, parts.netloc) == (
        "docker.io",
        "registry-1.docker.io",
    )
    return Host(
        parts.scheme,
        parts.netloc,
        path,
        _capabilities(table),
        Tls(_files(table, place), _pairs(table, place), _flag(table, "skip_verify")),
        _headers(table),
        _dial(table),
        mirrors="" if same else registry,
    )


def _registry(registry: str, scheme: str, tls: Tls) -> Host:
    """The registry as it is without any configuration."""
    if registry == "docker.io":
        return Host("https", "registry-1.docker.io", tls=tls)
    loopback = _LOOPBACK.fullmatch(registry)
    if scheme or not loopback:
        return Host(scheme or "https", registry, tls=tls)
    port = loopback[2] or ""
    if port == "80":
        return Host("http", registry, tls=tls)
    # nobody between us and loopback; whether it has TLS is seen when we come
    guess = port not in ("", "443")
    trusting = Tls(tls.authorities, tls.certificates, insecure=not tls.authorities)
    return Host("http" if guess else "https", registry, tls=trusting, guess=guess)


def _dockers(place: Path) -> Tls:
    """docker's convention: authorities in *.crt, certificates in *.cert with keys in *.key."""
    authorities = tuple(str(path) for path in sorted(place.glob("*.crt")))
    pairs = []
    for path in sorted(place.glob("*.cert")):
        key = path.with_suffix(".key")
        if not key.exists():
            raise InvalidArgument(f"{path}: its key {key.name} is missing")
        pairs.append((str(path), str(key)))
    return Tls(authorities, tuple(pairs))


def _flag(table: Mapping[str, Any], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise InvalidArgument(f"{key}: must be true or false")
    return value


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, ())
    found = (value,) if isinstance(value, str) else tuple(value) if value else ()
    if not all(isinstance(each, str) for each in found):
        raise InvalidArgument(f"{key}: must be a string or a list of strings")
    return found


def _files(table: Mapping[str, Any], place: Path) -> tuple[str, ...]:
    return tuple(str(place / each) for each in _strings(table, "ca"))


def _pairs(table: Mapping[str, Any], place: Path) -> tuple[tuple[str, str], ...]:
    value = table.get("client", ())
    pairs = []
    for entry in [value] if isinstance(value, str) else value:
        files = [entry] if isinstance(entry, str) else entry
        if (
            not isinstance(files, list)
            or len(files) not in (1, 2)
            or not all(isinstance(f, str) for f in files)
        ):
            raise InvalidArgument("client: must be a file, files, or pairs [certificate, key]")
        pairs.append((str(place / files[0]), str(place / (files[-1] or files[0]))))
    return tuple(pairs)


def _capabilities(table: Mapping[str, Any]) -> frozenset[str]:
    found = frozenset(_strings(table, "capabilities"))
    if found - CAPABILITIES:
        raise InvalidArgument(
            f"capability {min(found - CAPABILITIES)!r}: unknown", hint="pull, resolve, push"
        )
    return found or CAPABILITIES


def _headers(table: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    headers = table.get("header", {})
    if not isinstance(headers, dict):
        raise InvalidArgument("header: must be a table")
    return tuple((name, ", ".join(_strings(headers, name))) for name in headers)


def _dial(table: Mapping[str, Any]) -> float:
    text = table.get("dial_timeout", "")
    if text == "":
        return _DIAL
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise InvalidArgument(f"dial_timeout {text!r}: is not a duration", hint="like 3s or 500ms")
    parts = re.findall(r"([\d.]+)([a-zµ]+)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
