"""Address management ``host-local``: a file for each address, in the executable's own format.

``<dataDir>/<network>/<address>`` holds the container's id and interface; ``last_reserved_ip.<n>``
says where range set n goes on; ``lock`` is locked by flock(2). So the executable and this one may
serve the same network.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from cored.cni.calls import Call
from cored.cni.results import Address, Result, Route
from cored.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from cored_network_native.kinds import Host, Kind, previous

__all__ = ["HostLocal", "HostLocalKind"]

DATA = "/var/lib/cni/networks"
_Ip = IPv4Address | IPv6Address
_Net = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class _Range:
    """Addresses from ``first`` to ``last`` of a subnet, without its gateway."""

    subnet: _Net
    first: _Ip
    last: _Ip
    gateway: _Ip

    def __contains__(self, address: _Ip) -> bool:
        within = int(self.first) <= int(address) <= int(self.last)
        return within and address.version == self.subnet.version

    def after(self, last: _Ip | None) -> Iterator[_Ip]:
        """All addresses, beginning behind ``last``, round and round once."""
        start = int(self.first) if last is None or last not in self else int(last) + 1
        size = int(self.last) - int(self.first) + 1
        for step in range(size):
            value = int(self.first) + (start - int(self.first) + step) % size
            address = type(self.first)(value)
            if address != self.gateway:
                yield address


class HostLocal:
    """IPAM for one call's configuration."""

    def __init__(self, call: Call) -> None:
        table = call.config.get("ipam") or {}
        self._call = call
        self._directory = Path(table.get("dataDir") or DATA) / call.network
        self._sets = _range_sets(call, table)
        self._wanted = _wanted(call, table)
        self._routes = [
            Route(r["dst"], r.get("gw") or "", _extra(r)) for r in table.get("routes") or ()
        ]
        self._dns = _resolv_conf(table.get("resolvConf"))

    def add(self) -> Result:
        """Reserve an address of each range set. ResourceExhausted, InvalidArgument."""
        with self._locked():
            taken: list[Address] = []
            wanted = list(self._wanted)
            try:
                for number, ranges in enumerate(self._sets):
                    asked = next((a for a in wanted if any(a in one for one in ranges)), None)
                    if asked is not None:
                        wanted.remove(asked)
                    taken.append(self._reserve(number, ranges, asked))
                if wanted:
                    raise InvalidArgument(
                        f"network {self._call.network!r}: {', '.join(map(str, wanted))}: in none of"
                        " its address ranges"
                    )
            except BaseException:
                for one in taken:
                    self._file(one.address.partition("/")[0]).unlink(missing_ok=True)
                raise
        return Result(ips=taken, routes=self._routes, dns=self._dns)

    def delete(self, known: Sequence[str]) -> None:
        """Release: the addresses that are ``known``, or whatever its owner has."""
        if not self._directory.exists():
            return
        with self._locked():
            files = [self._file(address) for address in known]
            if not files or not all(self._is_owner(file) for file in files):
                files = [file for file in self._addresses() if self._is_owner(file)]
            for file in files:
                file.unlink(missing_ok=True)

    def check(self) -> bool:
        """Whether its owner has an address."""
        return self._directory.exists() and any(map(self._is_owner, self._addresses()))

    def collect(self, owners: Collection[tuple[str, str]]) -> None:
        """Release what belongs to none of the ``owners`` (id, interface)."""
        if not self._directory.exists():
            return
        ids = {id for id, _ in owners}
        with self._locked():
            for file in self._addresses():
                # as bytes: reading text would make another line's end of it
                content = file.read_bytes().decode(errors="replace").strip()
                id, _, ifname = content.partition("\r\n")
                # old versions of the executable note no interface
                if (id, ifname) not in owners if ifname else id not in ids:
                    file.unlink()

    def _reserve(self, number: int, ranges: Sequence[_Range], asked: _Ip | None) -> Address:
        if asked is not None:
            one = next(one for one in ranges if asked in one)
            if asked == one.gateway:
                raise InvalidArgument(
                    f"network {self._call.network!r}: {asked}: is its gateway's address"
                )
            if not self._take(asked):
                raise ResourceExhausted(
                    f"network {self._call.network!r}: {asked}: is in use by another container"
                )
            return Address(f"{asked}/{one.subnet.prefixlen}", str(one.gateway))
        last = self._last(number)
        # the range that the last address is of goes on first
        ordered = sorted(ranges, key=lambda one: last is None or last not in one)
        for one in ordered:
            for address in one.after(last):
                if self._take(address):
                    self._put(f"last_reserved_ip.{number}", str(address))
                    return Address(f"{address}/{one.subnet.prefixlen}", str(one.gateway))
        subnets = ", ".join(str(one.subnet) for one in ranges)
        raise ResourceExhausted(
            f"network {self._call.network!r}: no addresses left in {subnets}",
            hint="remove containers, or make a larger network",
        )

    def _take(self, address: _Ip) -> bool:
        """Reserve one address; a file comes to be whole or not at all."""
        path = self._file(str(address))
        try:
            if path.stat().st_size:
                return False
            # nobody writes an empty one: what the machine's sudden end has left
            path.unlink()
        except FileNotFoundError:
            pass
        new = self._put(".new", self._owner)
        try:
            os.link(new, path)
        except FileExistsError:
            return False
        finally:
            new.unlink()
        return True

    def _put(self, name: str, text: str) -> Path:
        path = self._directory / name
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        return path

    def _last(self, number: int) -> _Ip | None:
        try:
            return ip_address((self._directory / f"last_reserved_ip.{number}").read_text().strip())
        except (FileNotFoundError, ValueError):
            return None

    @property
    def _owner(self) -> str:
        return f"{self._call.container_id}\r\n{self._call.ifname}"

    def _is_owner(self, file: Path) -> bool:
        try:
            return file.read_bytes().decode(errors="replace").strip() in (
                self._owner,
                self._call.container_id,
            )
        except FileNotFoundError:
            return False

    def _addresses(self) -> Iterator[Path]:
        for path in list(self._directory.iterdir()):
            if path.name[:1] in "0123456789abcdef" or path.name.startswith("::"):
                yield path

    def _file(self, address: str) -> Path:
        return self._directory / address

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(self._directory / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


class HostLocalKind(Kind):
    """As a plugin of its own, for the bridge of another runtime."""

    def takes(self, config: Mapping[str, Any]) -> bool:
        """Whatever the network is: the table ``ipam`` alone is its own."""
        return True

    def add(self, host: Host, call: Call) -> Result:
        return HostLocal(call).add()

    def delete(self, host: Host, call: Call) -> None:
        HostLocal(call).delete([one.address.partition("/")[0] for one in previous(call).ips])

    def check(self, host: Host, call: Call) -> None:
        if not HostLocal(call).check():
            raise FailedPrecondition(
                f"network {call.network!r}: {call.container_id}: its address is not reserved"
            )

    def collect(self, host: Host, call: Call, owners: Collection[tuple[str, str]]) -> None:
        HostLocal(call).collect(owners)

    def status(self, host: Host, call: Call) -> None:
        HostLocal(call)


def _range_sets(call: Call, table: Mapping[str, Any]) -> list[list[_Range]]:
    """``ranges``, the older single range, and the capability ``ipRanges``, which goes first."""
    given = list((call.config.get("runtimeConfig") or {}).get("ipRanges") or ())
    if table.get("subnet"):
        given.append([table])
    given += table.get("ranges") or ()
    if not given:
        raise InvalidArgument(
            f"network {call.network!r}: ipam host-local: no address range",
            hint='give it "ranges": [[{"subnet": "10.1.0.0/16"}]]',
        )
    try:
        return [[_range(one) for one in ranges] for ranges in given]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"network {call.network!r}: ipam host-local: {error}") from error


def _range(table: Mapping[str, Any]) -> _Range:
    subnet = ip_network(table["subnet"], strict=False)
    if subnet.prefixlen > subnet.max_prefixlen - 2:
        raise ValueError(f"subnet {subnet}: too small to allocate from")
    first = ip_address(table.get("rangeStart") or subnet.network_address + 1)
    last = ip_address(
        table.get("rangeEnd")
        or (subnet.broadcast_address - 1 if subnet.version == 4 else subnet.broadcast_address)
    )
    gateway = ip_address(table.get("gateway") or subnet.network_address + 1)
    for one in (first, last):
        if one not in subnet:
            raise ValueError(f"range {first}-{last}: not within {subnet}")
    return _Range(subnet, first, last, gateway)


def _wanted(call: Call, table: Mapping[str, Any]) -> list[_Ip]:
    """Addresses that were asked for: CNI_ARGS ``IP``, ``args.cni.ips``, the capability ``ips``."""
    texts = [text for text in (call.args.get("IP") or "").split(",") if text]
    texts += ((call.config.get("args") or {}).get("cni") or {}).get("ips") or ()
    texts += (call.config.get("runtimeConfig") or {}).get("ips") or ()
    try:
        return list(dict.fromkeys(ip_address(text.partition("/")[0]) for text in texts))
    except ValueError as error:
        raise InvalidArgument(f"network {call.network!r}: {error}") from error


def _extra(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in ("dst", "gw")}


def _resolv_conf(path: str | None) -> dict[str, Any]:
    """The DNS configuration in a file of resolv.conf(5)'s form."""
    if not path:
        return {}
    found: dict[str, Any] = {}
    for line in Path(path).read_text(errors="replace").splitlines():
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        match words[0]:
            case "nameserver":
                found.setdefault("nameservers", []).append(words[1])
            case "domain":
                found["domain"] = words[1]
            case "search":
                found["search"] = words[1:]
            case "options":
                found["options"] = words[1:]
    return found
