"""What a container reads in /etc of its names and its network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cored.errors import InvalidArgument

__all__ = ["Dns", "check_name", "host_resolv_conf", "hosts", "names", "resolv_conf", "text"]

_LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_IPV6 = (
    "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)


@dataclass(frozen=True, slots=True)
class Dns:
    """Servers, search domains and options that were asked for; empty is the host's."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def hosts(
    names: Sequence[str],
    addresses: Iterable[str],
    extra: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    base: str = "",
) -> str:
    """``/etc/hosts``: what is always there, the container's own, and what was added by hand."""
    own = [f"{address.partition('/')[0]}\t{' '.join(names)}\n" for address in addresses]
    if not own and names:
        own = [f"127.0.1.1\t{' '.join(names)}\n"]
    pairs = extra.items() if isinstance(extra, Mapping) else extra
    added = [f"{address}\t{name}\n" for name, address in pairs]
    return "".join([base or _LOCAL + _IPV6, *own, *added])


def names(hostname: str, domain: str) -> list[str]:
    """What a container calls itself."""
    return [f"{hostname}.{domain}", hostname] if domain else [hostname]


def resolv_conf(host: str, dns: Dns, servers: Sequence[str], *, local: bool = False) -> str:
    """``/etc/resolv.conf``, from the host's one (its text).

    ``servers`` are those of the container's networks; without any, what was asked for, else the
    host's, but for those on its loopback, which a container that is not ``local`` cannot reach.
    """
    theirs, search, options = _parsed(host)
    chosen = list(servers) or list(dns.servers)
    if not chosen:
        chosen = [one for one in theirs if local or not _is_loopback(one)]
    lines = [f"nameserver {one}\n" for one in chosen]
    search = list(dns.search) or search
    if search and search != ["."]:
        lines.insert(0, f"search {' '.join(search)}\n")
    options = list(dict.fromkeys([*(dns.options or options)]))
    if options:
        lines.append(f"options {' '.join(options)}\n")
    return "".join(lines)


def host_resolv_conf() -> str:
    """The host's: systemd-resolved's real one where the usual one names only its stub."""
    found = text(Path("/etc/resolv.conf"))
    servers, _, _ = _parsed(found)
    if servers == ["127.0.0.53"]:
        return text(Path("/run/systemd/resolve/resolv.conf")) or found
    return found


def check_name(name: str) -> str:
    """A host's name, if it is one (RFC 1123, section 2.1; underscores are forgiven)."""
    labels = name.rstrip(".").split(".")
    if not name or len(name) > 253 or not all(map(_is_label, labels)):
        raise InvalidArgument(f"host name {name!r}: invalid")
    return name


def _is_label(label: str) -> bool:
    letters = label.replace("-", "").replace("_", "")
    return 0 < len(label) < 64 and letters.isascii() and letters.isalnum()


def _is_loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"


def text(path: Path) -> str:
    """A file's; '' where there is none."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _parsed(text: str) -> tuple[list[str], list[str], list[str]]:
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return servers, search, options
