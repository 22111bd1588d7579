"""Pods in their network: a namespace kept by a file, attached by the host's CNI configuration."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cored import log
from cored.abc.network import Attachment, Network, NetworkList
from cored.cni import namespaces
from cored.engine.networks import Catalog
from cored.errors import CoredError, FailedPrecondition, InvalidArgument, from_os_error
from cored_service_cri.values import Pod

__all__ = ["PodNetworks"]

_IFNAME = "eth0"
_PROTOCOLS = ("tcp", "udp", "sctp")
_SIOCSIFFLAGS, _UP = 0x8914, 0x1 | 0x40
_INGRESS = "kubernetes.io/ingress-bandwidth"
_EGRESS = "kubernetes.io/egress-bandwidth"
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": 1 << 20,
          "Gi": 1 << 30, "Ti": 1 << 40}  # fmt: skip


class PodNetworks:
    """Namespaces are kept in ``state``; attachments by the network plugin."""

    def __init__(self, network: Network, catalog: Catalog, state: Path) -> None:
        self._network = network
        self._catalog = catalog
        self._state = state
        self._attached: dict[str, Attachment] = {}

    async def recover(self, living: Iterable[str]) -> None:
        """Know what earlier daemons attached; let go of what belongs to no pod."""
        self._state.mkdir(mode=0o711, parents=True, exist_ok=True)
        known = set(living)
        for attachment in await self._network.attachments():
            if Path(attachment.netns).parent != self._state:
                continue
            self._attached[attachment.container_id] = attachment
        for id in {*self._attached, *(path.name for path in self._state.iterdir())} - known:
            await self.remove(id)

    def default(self) -> NetworkList:
        """The network of pods: the first of the configuration directories. FailedPrecondition."""
        for network in self._catalog.list():
            if not network.made_here and network.driver != "loopback":
                return network.config
        raise FailedPrecondition(
            "pod network: there is no CNI configuration",
            hint="install a network add-on, or put a .conflist into /etc/cni/net.d",
        )

    async def status(self) -> None:
        """FailedPrecondition while pods cannot have a network."""
        await self._network.status(await asyncio.to_thread(self.default))

    def place(self, id: str) -> str:
        """The path of a pod's network namespace."""
        return str(self._state / id)

    async def make(self, id: str, pid: int = 0) -> str:
        """A namespace for a pod, or the one that a process has (for user namespaces); its path."""
        await asyncio.to_thread(_made, self._state / id, pid)
        return self.place(id)

    async def attach(self, pod: Pod) -> tuple[str, ...]:
        """The pod's addresses. Nothing stays of a failure but the namespace."""
        network = await asyncio.to_thread(self.default)
        meta = pod.config.metadata
        wanted = Attachment(
            pod.id,
            self.place(pod.id),
            _IFNAME,
            network,
            args={
                "IgnoreUnknown": "1",
                "K8S_POD_NAMESPACE": meta.namespace,
                "K8S_POD_NAME": meta.name,
                "K8S_POD_INFRA_CONTAINER_ID": pod.id,
                "K8S_POD_UID": meta.uid,
            },
            capabilities=_capabilities(pod),
        )
        made = self._attached[pod.id] = await self._network.attach(wanted)
        addresses = [one["address"].partition("/")[0] for one in made.result.get("ips") or ()]
        if not addresses:
            await self.detach(pod.id)
            raise FailedPrecondition(f"pod network {network.name!r}: gave the pod no address")
        return tuple(dict.fromkeys(addresses))

    async def detach(self, id: str) -> None:
        """Take a pod out of its network; fine when it is in none."""
        attachment = self._attached.get(id)
        if attachment is not None:
            await self._network.detach(attachment)
            self._attached.pop(id, None)

    async def remove(self, id: str) -> None:
        """Detach, and let go of the namespace; what fails is tried again with the next daemon."""
        try:
            await self.detach(id)
        except CoredError as error:
            log.get("cri").warning("detaching a pod", pod=id, error=str(error))
        await asyncio.to_thread(namespaces.remove, self._state / id)


def _made(path: Path, pid: int) -> None:
    try:
        if pid:
            namespaces.keep(pid, path)
            return
        namespaces.make(path)
        with namespaces.entered(str(path)), socket.socket(socket.AF_INET) as any_socket:
            request = struct.pack("16sh", b"lo", _UP)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request.ljust(40, b"\0"))
    except OSError as error:
        raise from_os_error(f"network namespace {path}", error) from error


def _capabilities(pod: Pod) -> dict[str, Any]:
    """What goes to the plugins that declare it (CNI conventions, "dynamic configuration")."""
    config = pod.config
    found: dict[str, Any] = {
        "io.kubernetes.cri.pod-annotations": dict(config.annotations),
        "cgroupPath": config.linux.cgroup_parent,
    }
    ports = [
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": _PROTOCOLS[port.protocol],
            **({"hostIP": port.host_ip} if port.host_ip else {}),
        }
        for port in config.port_mappings
        if port.host_port > 0
    ]
    if ports:
        found["portMappings"] = ports
    ingress, egress = (config.annotations.get(name, "") for name in (_INGRESS, _EGRESS))
    if ingress or egress:
        found["bandwidth"] = _bandwidth(ingress, egress)
    if config.dns_config.servers or config.dns_config.searches or config.dns_config.options:
        dns = config.dns_config
        found["dns"] = {
            "servers": list(dns.servers), "searches": list(dns.searches),
            "options": list(dns.options),
        }  # fmt: skip
    return found


def _bandwidth(ingress: str, egress: str) -> dict[str, int]:
    """Bits a second, with as much burst as there can be."""
    burst = (1 << 31) - 1
    found: dict[str, int] = {}
    for name, text in (("ingress", ingress), ("egress", egress)):
        if text:
            found |= {f"{name}Rate": _quantity(text), f"{name}Burst": burst}
    return found


def _quantity(text: str) -> int:
    """A quantity of Kubernetes': 10M, 512Ki, 1000. InvalidArgument."""
    number = text.rstrip("kKMGTi")
    unit = text[len(number) :]
    if not number.isdecimal() or unit not in _UNITS:
        raise InvalidArgument(f"bandwidth {text!r}: not a quantity", hint="write 10M")
    return int(number) * _UNITS[unit]
