"""Containers in networks, by a real daemon on a host of its own; by netlink and by executables."""

from __future__ import annotations

import json
import socket
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from cored import linux
from tests.sites import TCP, UDP, Site, site

pytestmark = pytest.mark.root

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture(scope="module", params=["native", "cni"])
def host(
    request: pytest.FixtureRequest, busybox: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A host with networks: ``web``, published as 8080, and ``client`` in lan, ``afar`` in far."""
    with site(tmp_path_factory.mktemp("site"), request.param, busybox) as made:
        made("network", "create", "--ipv6", "--subnet", "10.5.0.0/24", "lan")
        made("network", "create", "far")
        made.serve("web", "--network", "lan", "-p", "8080:80", "-p", "8080:80/udp")
        made.idle("client", "--network", "lan", "--network-alias", "caller")
        made.idle("afar", "--network", "far")
        yield made


@pytest.mark.parametrize("kind", [TCP, UDP])
@pytest.mark.parametrize("family", [V4, V6])
def test_containers_talk_by_name(host: Site, kind: int, family: int) -> None:
    addresses = host.inspect("client")["networks"]["lan"]["addresses"]
    seen = host.ask("client", "web", 80, kind, family)
    assert seen in [address.partition("/")[0] for address in addresses]
    assert (":" in seen) == (family == V6)


def test_a_container_has_several_names_in_its_network(host: Site) -> None:
    id = host.inspect("client")["id"]
    for name in ("client", "caller", id[:12]):
        assert "10.5.0.3" in host("run", "--rm", "--network", "lan", "busybox", "nslookup", name)


@pytest.mark.parametrize("kind", [TCP, UDP])
def test_a_published_port_answers_from_everywhere(host: Site, kind: int) -> None:
    world = host.world
    assert host.answer(world.outside, world.host, 8080, kind) == world.other
    assert host.answer("", world.host, 8080, kind)
    assert host.answer("", "127.0.0.1", 8080, kind)
    assert host.answer(world.outside, world.host6, 8080, kind)
    assert host.answer("", world.host6, 8080, kind)
    assert host.ask("client", world.host, 8080, kind)
    assert host.ask("web", world.host, 8080, kind)
    if host.native:  # the executables keep networks apart even here
        assert host.ask("afar", world.host, 8080, kind)


def test_ports_are_published_in_every_customary_form(host: Site) -> None:
    world = host.world
    taken = ("-p", "9000:9000")
    host.idle("holder", *taken)
    forms = ("-p", "80", "-p", "127.0.0.1:8181:80", "-p", f"{world.host}::80/udp")
    ranges = ("-p", "8201-8203:90-92", "-p", "9000-9002:80", "-p", "[::1]:8282:80")
    host.serve("forms", *forms, *ranges, "--network", "lan")
    printed = [line.split(" -> ") for line in host("port", "forms").splitlines()]
    there = {(inside, outside) for inside, outside in printed}
    # of every address is of both families
    every = {one for one in there if one[1].startswith("0.0.0.0")}
    both = {(inside, outside.replace("0.0.0.0", "[::]")) for inside, outside in every}
    assert every and both <= there
    there -= both
    fixed = {(f"{90 + n}/tcp", f"0.0.0.0:{8201 + n}") for n in range(3)}
    fixed |= {("80/tcp", "127.0.0.1:8181"), ("80/tcp", "[::1]:8282"), ("80/tcp", "0.0.0.0:9001")}
    assert fixed <= there
    (random,) = [where for what, where in there - fixed if what == "80/tcp"]
    (datagrams,) = [where for what, where in there if what == "80/udp"]
    assert host("port", "forms", "80/udp") == datagrams
    assert host.answer(world.outside, world.host, int(random.rpartition(":")[2]))
    assert host.answer(world.outside, world.host, int(datagrams.rpartition(":")[2]), UDP)
    assert host.answer("", "127.0.0.1", 8181)
    with pytest.raises(OSError):
        host.answer(world.outside, world.host, 8181)
    assert host.answer("", "127.0.0.1", 9001)
    assert "differ in length" in host("run", "-p", "8000-8001:80-82", "busybox", code=125)
    assert "published by another" in host("run", "--rm", *taken, "busybox", "true", code=125)
    host.remove("forms", "holder")


def test_all_that_an_image_exposes_is_published(host: Site, busybox: Path, tmp_path: Path) -> None:
    archive = _exposing(busybox, tmp_path / "exposing.tar", ["80/tcp", "80/udp", "81/tcp"])
    host.daemon.ctr("images", "import", str(archive))
    host("run", "-d", "--name", "all", "-P", "-p", "8081:81", "exposing", "sleep", "1000")
    found = dict(line.split(" -> ") for line in host("port", "all").splitlines())
    assert set(found) == {"80/tcp", "80/udp", "81/tcp"}
    assert found["81/tcp"] == "0.0.0.0:8081"
    host.remove("all")


def test_a_port_of_a_program_is_not_taken_from_it(host: Site) -> None:
    with host.world.server("", 8300, TCP, V4):
        said = host("run", "--rm", "-p", "8300:80", "busybox", "true", code=125)
        assert "8300" in said and "in use by another program" in said
        assert host("run", "--rm", "-p", "8300-8301:80", "busybox", "true") == ""


def test_no_network_is_a_loopback_alone(host: Site) -> None:
    said = host("run", "--rm", "--network", "none", "busybox", "ip", "-o", "address")
    assert {line.split()[1] for line in said.splitlines()} == {"lo"}
    assert "127.0.0.1" in said


def test_the_host_s_network_is_the_host_s(host: Site) -> None:
    said = host("run", "--rm", "--network", "host", "busybox", "ip", "-o", "address")
    assert host.world.host in said
    ignored = host.daemon.corectl(
        "run", "--rm", "--network", "host", "-p", "1:1", "busybox", "true"
    )
    assert (ignored.returncode, b"they have no effect" in ignored.stderr) == (0, True)


def test_a_network_is_shared_with_another_container(host: Site) -> None:
    options = ("--rm", "--network", "container:web", "busybox")
    said = host("run", *options, "sh", "-c", "ip -o address; cat /etc/hosts; hostname")
    assert "10.5.0.2/24" in said
    assert "10.5.0.2\t" in said
    assert said.splitlines()[-1] == host.inspect("web")["id"][:12]
    assert "not found" in host("run", "--network", "container:nobody", "busybox", code=125)


def test_address_and_names_are_as_asked_for(host: Site) -> None:
    wanted = ("--ip", "10.5.0.77", "--mac-address", "02:00:00:00:00:05", "--hostname", "own")
    names = ("--domainname", "example.org", "--add-host", "db:10.9.9.9", "--dns-search", "corp")
    more = ("--add-host", "gate=host-gateway", "--dns-option", "ndots:2")
    script = "ip -o address show eth0; ip link show eth0; cat /etc/hosts /etc/resolv.conf; hostname"
    said = host(
        *("run", "--rm", "--network", "lan", *wanted, *names, *more, "busybox", "sh", "-c", script)
    )
    for part in (
        "10.5.0.77/24", "02:00:00:00:00:05", "10.5.0.77\town.example.org own", "10.9.9.9\tdb",
        "10.5.0.1\tgate", "search corp", "options ndots:2", "nameserver 10.5.0.1",
    ):  # fmt: skip
        assert part in said, said
    assert said.splitlines()[-1] == "own"
    busy = host("run", "--network", "lan", "--ip", "10.5.0.2", "--rm", "busybox", code=125)
    assert "10.5.0.2" in busy


def test_options_may_stand_with_their_network(host: Site) -> None:
    both = ("--network", "name=lan,ip=10.5.0.88,alias=first", "--network", "far,alias=second")
    host.idle("both", *both)
    found = host.inspect("both")["networks"]
    assert found["lan"]["addresses"][0] == "10.5.0.88/24"
    assert found["lan"]["aliases"] == ["first"]
    assert found["far"]["interface"] == "eth1"
    assert found["far"]["aliases"] == ["second"]
    host.remove("both")


def test_what_is_no_container_s_name_is_asked_of_the_host_s_servers(
    host: Site, tmp_path: Path
) -> None:
    """And the host's own file of names is nobody's business."""
    configured = tmp_path / "resolv.conf"
    configured.write_text(f"nameserver {host.world.other}\n")
    linux.mount(str(configured), "/etc/resolv.conf", None, linux.MS_BIND)
    try:
        # servers that run have read the other file: one of a new network has not
        host("network", "create", "asking")
        server = host.world.opened(host.world.outside, V4, UDP)
        with server:
            server.bind((host.world.other, 53))
            server.settimeout(60)  # the container takes a while to come
            words = ("--network", "asking", "busybox", "nslookup", "-type=a", "far.example.")
            with host.popen("run", "--rm", *words) as running:
                question, sender = server.recvfrom(1000)
                server.sendto(_answer(question, "192.0.2.9"), sender)
                said, _ = running.communicate(timeout=60)
        assert b"192.0.2.9" in said
        assert "localhost" in Path("/etc/hosts").read_text()
        words = ("--network", "asking", "busybox", "nslookup", "localhost")
        done = host.daemon.corectl("run", "--rm", *words)
        assert done.returncode != 0
        assert b"127.0.0.1" not in done.stdout
    finally:
        linux.unmount("/etc/resolv.conf")
        host("network", "rm", "asking")


def test_a_container_changes_its_networks_while_it_runs(host: Site) -> None:
    host.idle("mover", "--network", "far")
    with pytest.raises(RuntimeError):
        host.ask("mover", "web", 80)
    host("network", "connect", "--alias", "guest", "lan", "mover")
    assert host.ask("mover", "10.5.0.2", 80)
    assert "mover" in [
        one["Name"]
        for one in json.loads(host("network", "inspect", "lan"))[0]["Containers"].values()
    ]
    assert host.inside("client", "/bin/nslookup", "guest")
    assert "already" in host("network", "connect", "lan", "mover", code=1)
    host("rename", "mover", "moved")
    host.until(lambda: "Address" in _looked_up(host, "client", "moved"))
    assert "Address" in _looked_up(host, "client", "guest")
    host("rename", "moved", "mover")
    host("network", "disconnect", "far", "mover")
    assert list(host.inspect("mover")["networks"]) == ["lan"]
    assert host.ask("mover", "10.5.0.2", 80)
    host("network", "disconnect", "lan", "mover")
    assert host.inspect("mover")["networks"] == {}
    assert "not in network" in host("network", "disconnect", "lan", "mover", code=1)
    host.remove("mover")


def test_a_container_changes_its_networks_while_it_is_stopped(host: Site) -> None:
    host("create", "--name", "still", "--network", "far", "busybox", "sleep", "1000")
    host("network", "connect", "--ip", "10.5.0.99", "lan", "still")
    host("network", "disconnect", "far", "still")
    host("start", "still")
    found = host.inspect("still")["networks"]
    assert list(found) == ["lan"]
    assert found["lan"]["addresses"][0] == "10.5.0.99/24"
    host.remove("still")


def test_networks_do_not_reach_each_other(host: Site) -> None:
    for target in ("10.5.0.2", "web"):
        with pytest.raises(RuntimeError):
            host.ask("afar", target, 80)


def test_an_internal_network_has_no_way_out(host: Site) -> None:
    host("network", "create", "--internal", "inside")
    host.idle("alone", "--network", "inside")
    with host.world.server(host.world.outside, 80, TCP) as server:
        server.settimeout(1)
        with pytest.raises(RuntimeError):
            host.ask("alone", host.world.other, 80)
        with pytest.raises(TimeoutError):
            server.accept()
    host.remove("alone")
    host("network", "rm", "inside")


def test_networks_are_listed_and_removed_when_nobody_is_in_them(host: Site) -> None:
    host("network", "create", "--label", "a=b", "--subnet", "10.66.0.0/16", "brief")
    id = host("network", "create", "unused")
    listed = map(json.loads, host("network", "ls", "--format", "json").splitlines())
    names = {one["Name"]: one for one in listed}
    assert names["brief"]["Subnets"] == "10.66.0.0/16"
    assert names["brief"]["Labels"] == "a=b"
    assert "already exists" in host("network", "create", "brief", code=1)
    assert "overlaps" in host("network", "create", "--subnet", "10.66.1.0/24", "x", code=1)
    host.idle("member", "--network", "brief")
    assert "is used by member" in host("network", "rm", "brief", code=1)
    host("stop", "-t", "0", "member")
    # one that is stopped still wants it
    assert host("network", "prune", "-f").split() == ["Deleted", "Networks:", "unused"]
    assert "not found" in host("network", "inspect", id[:12], code=1)
    host.remove("member")
    assert host("network", "rm", names["brief"]["ID"][:10])
    assert "not found" in host("network", "rm", "brief", code=1)
    for name in ("host", "none", "bridge"):
        host("network", "create", name, code=1)


def test_a_network_of_a_configuration_directory_is_joined_by_its_name(host: Site) -> None:
    ip = host.world.ip
    ip("", "link", "add", "trunk", "type", "veth", "peer", "name", "far0")
    ip("", "link", "set", "trunk", "up")
    ip("", "link", "set", "far0", "up")
    ip("", "address", "add", "10.77.0.1/24", "dev", "far0")
    ipam = {
        "type": "host-local", "subnet": "10.77.0.0/24", "rangeStart": "10.77.0.10",
        "dataDir": str(host.place / "addresses"),
    }  # fmt: skip
    table = {"cniVersion": "0.4.0", "name": "street", "type": "macvlan", "master": "trunk"}
    (host.place / "conf/10-street.conf").write_text(json.dumps({**table, "ipam": ipam}))
    (host.place / "conf/20-broken.conflist").write_text("{")
    listed = map(json.loads, host("network", "ls", "--format", "json").splitlines())
    assert {one["Name"]: one["Driver"] for one in listed}["street"] == "macvlan"
    host.serve("citizen", "--network", "street")
    assert host.inspect("citizen")["networks"]["street"]["addresses"] == ["10.77.0.10/24"]
    assert host.answer("", "10.77.0.10", 80) == "10.77.0.1"
    assert "is used by citizen" in host("network", "rm", "street", code=1)
    host.remove("citizen")
    assert not list((host.place / "addresses").glob("*/10.*"))
    assert "was not made here" in host("network", "rm", "street", code=1)
    ip("", "link", "del", "trunk")


def _looked_up(host: Site, asking: str, name: str) -> str:
    """What a container's name servers say, without who they are."""
    try:
        said = host.inside(asking, "/bin/nslookup", name)
    except RuntimeError:
        return ""
    return said.partition("\n\n")[2]


def _exposing(busybox: Path, archive: Path, ports: list[str]) -> Path:
    """The same image under the name exposing, with ports."""
    with tarfile.open(busybox) as source, tarfile.open(archive, "w") as target:
        for member in source:
            file = source.extractfile(member)
            data = file.read() if file is not None else b""
            if member.name == "config.json":
                config = json.loads(data)
                config["config"]["ExposedPorts"] = {port: {} for port in ports}
                data = json.dumps(config).encode()
            elif member.name == "manifest.json":
                data = data.replace(b"busybox:latest", b"exposing:latest")
            member.size = len(data)
            target.addfile(member, BytesIO(data))
    return archive


def _answer(question: bytes, address: str) -> bytes:
    """A DNS answer with one address for a question (RFC 1035, section 4.1)."""
    counts = bytes.fromhex("0001000100000000")
    name = question[12 : question.index(b"\0", 12) + 5]
    record = bytes.fromhex("c00c000100010000000a0004") + socket.inet_aton(address)
    return question[:2] + b"\x81\x80" + counts + name + record
