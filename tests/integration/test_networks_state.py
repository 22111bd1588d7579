"""What containers in networks leave on a host: nothing, however they, or the daemon, end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cored import linux
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.client.channel import Channel
from cored.client.workloads import Workloads
from cored.testing.worlds import world
from tests import daemons
from tests.sites import TCP, Site, ruleset, site

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=["native", "cni"])
def host(
    request: pytest.FixtureRequest, busybox: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A host where a first container has been: chains that executables make once are there."""
    with site(tmp_path_factory.mktemp("site"), request.param, busybox) as made:
        made("network", "create", "--ipv6", "lan")
        made("run", "--rm", "--network", "lan", "-p", "7000:7000", "busybox", "true")
        yield made


def test_nothing_stays_of_a_container_that_has_ended(host: Site) -> None:
    before = host.traces()
    options = ("--network", "lan", "-p", "8080:80")
    host("run", "--name", "over", *options, "busybox", "true")
    assert host.traces() == before
    host.idle("killed", *options)
    assert host.traces() != before
    os.kill(host.inspect("killed")["pid"], signal.SIGKILL)
    host("wait", "killed")
    assert host.traces() == before
    host("start", "killed")
    assert host.traces() != before
    host.remove("killed", "over")
    assert host.traces() == before


def test_nothing_stays_of_a_container_that_does_not_start(host: Site) -> None:
    before = host.traces()
    host.idle("first", "--network", "lan", "--ip6", "")
    during = host.traces()
    taken = host.inspect("first")["networks"]["lan"]["addresses"][0].partition("/")[0]
    for options in (
        ("--network", "lan", "--ip", taken),
        # the second network is the one that cannot be joined
        ("--network", "lan", "--network", f"name=bridge,ip={taken}"),
        ("--network", "lan", "-p", "192.0.2.77:80:80"),
        ("--network", "lan", "-p", "7100:80", "-p", "7100:81"),
    ):
        host("run", "--rm", *options, "busybox", "true", code=125)
        assert host.traces() == during, options
    host("run", "--rm", "--network", "lan", "busybox", "nosuchcommand", code=127)
    assert host.traces() == during
    host.remove("first")
    assert host.traces() == before


def test_what_ends_while_the_daemon_is_down_is_released_when_it_is_back(host: Site) -> None:
    before = host.traces()
    host.idle("goes", "--network", "lan", "-p", "8080:80")
    host.serve("stays", "--network", "lan", "-p", "8081:80")
    pid = host.inspect("goes")["pid"]
    host.daemon.kill()
    os.kill(pid, signal.SIGKILL)
    assert host.answer("", "127.0.0.1", 8081)
    host.daemon.start()
    host("wait", "goes")
    host.until(lambda: len(host.traces()["namespaces"]) == 1)
    assert host.answer("", "127.0.0.1", 8081)
    with pytest.raises(OSError):
        host.answer("", "127.0.0.1", 8080)
    host.remove("goes", "stays")
    assert host.traces() == before


@pytest.mark.slow
def test_a_daemon_that_is_killed_while_fifty_containers_join_leaks_nothing(host: Site) -> None:
    before = host.traces()
    # executables take their time
    many = 50 if host.native else 10
    names = [f"many{number}" for number in range(many)]
    config = pb.ContainerConfig(image="busybox", args=["sleep", "1000"], network="lan")
    with closing(Channel(str(host.daemon.address), namespace="default")) as channel:
        for name in names:
            config.name = name
            Workloads(channel).create(config)
    with ThreadPoolExecutor(4) as pool:
        starting = [host.popen("start", *names[first::6]) for first in range(6)]
        host.until(lambda: len(host.traces()["addresses"]) > many // 2)
        host.daemon.kill()
        for process in starting:
            process.communicate(timeout=60)
        host.daemon.start()
        running = host("ps", "-q").split()
        # those that had joined go on, and nobody else has anything
        during = host.traces()
        assert len(during["kept"]) == len(running) == len(during["namespaces"])
        assert len(during["interfaces"]) == len(running)
        assert len(during["addresses"]) == 2 * len(running)
        left = [one["name"] for one in host.inspect_all(names) if one["status"] != "running"]
        list(pool.map(lambda first: host("start", *left[first::4]), range(min(4, len(left)))))
        found = [one["networks"]["lan"]["addresses"] for one in host.inspect_all(names)]
        assert len({addresses[0] for addresses in found}) == many
        host.remove(*names)
    after = host.traces()
    if not host.native:
        # the executables cannot undo what they do not know the result of (some rules stay)
        after = {**after, "elements": before["elements"]}
    assert after == before


def test_after_a_reboot_everything_begins_anew(host: Site, tmp_path: Path) -> None:
    """The machine's end: processes, mounts and the state are gone, the root is there."""
    before = host.traces()
    addresses, kept = before["addresses"], before["kept"]
    host.idle("old", "--network", "lan", "-p", "8080:80")
    shim, pid = _shim(host.inspect("old")["pid"]), host.inspect("old")["pid"]
    host.daemon.kill()
    for process in (*shim, pid):
        os.kill(process, signal.SIGKILL)
    state = host.daemon.home / "state"
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{state}/"):
            linux.unmount(line.split()[1], lazy=True)
    for server in state.glob("resolvers/*/pid"):
        os.kill(int(server.read_text()), signal.SIGKILL)
    shutil.rmtree(state)
    place = tmp_path / "namespaces"
    place.mkdir()
    with world(place):
        host.daemon.start()
        assert host.inspect("old")["status"] == "exited"
        assert host.traces()["addresses"] == addresses
        assert host.traces()["kept"] == kept
        assert host.traces()["elements"] == []
        host("rm", "old")
        host.serve("new", "--network", "lan", "-p", "8080:80")
        assert host.answer("", "127.0.0.1", 8080)
        host.remove("new")
        host.daemon.stop()
    host.daemon.start()


def test_a_rule_set_that_was_flushed_is_restored(host: Site) -> None:
    if not host.native:
        pytest.skip("executables have no word for it: CHECK says that something is wrong")
    host.serve("steady", "--network", "lan", "-p", "8080:80")
    there = ruleset()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    with pytest.raises(OSError):
        host.answer("", "127.0.0.1", 8080)
    # whoever comes next brings it back
    host("run", "--rm", "--network", "lan", "busybox", "true")
    assert host.answer("", "127.0.0.1", 8080)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    host.daemon.stop()
    host.daemon.start()
    host("ps")  # is answered when all is open
    assert host.answer("", "127.0.0.1", 8080)
    assert sorted(ruleset().split()) == sorted(there.split())
    host.remove("steady")


def test_a_name_server_has_few_rights_and_is_replaced_when_it_dies(host: Site) -> None:
    host.serve("named", "--network", "lan")
    place = host.daemon.home / "state/resolvers/lan"
    pid = int((place / "pid").read_text())
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t65534\t65534" in status
    gateways = set(host.inspect("named")["networks"]["lan"]["gateways"])
    found = subprocess.run(
        ["ss", "-Hlntup", "sport", "=", "53"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    listening = {line.split()[4].rpartition(":")[0].strip("[]") for line in found}
    assert {one.partition("%")[0] for one in listening} == gateways
    os.kill(pid, signal.SIGKILL)
    host.until(lambda: (place / "pid").read_text().strip() not in ("", str(pid)))
    asked = ("run", "--rm", "--network", "lan", "busybox", "nslookup", "named")
    host.until(lambda: host.daemon.corectl(*asked).returncode == 0)
    host.remove("named")


def test_containers_get_out_where_the_host_forwards_nothing_by_default(host: Site) -> None:
    """As docker's iptables have it; ours are rules that iptables can show."""
    world = host.world
    try:
        for program in ("iptables", "ip6tables"):
            subprocess.run([program, "-P", "FORWARD", "DROP"], check=True)
        host.serve("behind", "--network", "lan", "-p", "8080:80")
        with world.server(world.outside, 80, TCP) as server:
            server.settimeout(60)  # containers take a while to come
            for address in (world.other, world.other6):
                words = ("--network", "lan", "busybox", "nc", "-w", "5", address, "80")
                with host.popen("run", "--rm", *words) as running:
                    server.accept()[0].close()
                    assert running.wait(60) == 0
        if host.native:  # the executable firewall lets nothing new in here
            assert host.answer(world.outside, world.host, 8080) == world.other
            assert host.answer(world.outside, world.host6, 8080) == world.other6
        # what is not published stays refused
        address = host.inspect("behind")["networks"]["lan"]["addresses"][0].partition("/")[0]
        if host.native:
            world.ip(world.outside, "route", "add", f"{address}/32", "via", world.host)
            with pytest.raises(OSError):
                host.answer(world.outside, address, 80)
        shown = subprocess.run(["iptables", "-S", "FORWARD"], capture_output=True, text=True)
        assert shown.returncode == 0
        host.remove("behind")
        host("network", "rm", "lan")
        shown = subprocess.run(["iptables", "-S", "FORWARD"], capture_output=True, text=True)
        assert "br-" not in shown.stdout
    finally:
        for program in ("iptables", "ip6tables"):
            subprocess.run([program, "-P", "FORWARD", "ACCEPT"], check=True)
        host("network", "create", "--ipv6", "lan")


def test_daemons_on_one_host_have_each_their_bridge(host: Site, busybox: Path) -> None:
    if not host.native:
        pytest.skip("executables keep what is theirs apart, and remove no bridge")

    def bridges() -> set[str]:
        return {one["ifname"] for one in host.world.ip("", "link", "show", "type", "bridge")}

    host.serve("mine")
    before = bridges()
    with daemons.cored() as other:
        other.corectl("load", "-i", str(busybox), check=True)
        run = ("run", "-d", "--name", "theirs", "busybox", "sleep", "1000")
        other.corectl(*run, check=True)
        (added,) = bridges() - before
        mine = host.inspect("mine")["networks"]["bridge"]["addresses"][0].partition("/")[0]
        # what one has in its network is out of the other's reach
        asked = ("exec", "theirs", "nc", "-w", "2", mine, "80")
        assert other.corectl(*asked, input=b"hello").returncode != 0
        other.corectl("rm", "-f", "theirs", check=True)
    # it goes with its daemon, and the other's stays
    assert bridges() == before and added not in before
    assert host.answer("", mine, 80)
    host.remove("mine")


def _shim(pid: int) -> list[int]:
    """A container's shim: its parent, and that of a part of a shim."""
    found: list[int] = []
    for _ in range(2):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if "shim" not in Path(f"/proc/{pid}/cmdline").read_text():
            break
        found.append(pid)
    return found
