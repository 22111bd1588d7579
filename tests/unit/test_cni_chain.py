"""Plugins called as the specification has it: in order, with what each is to know."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cored.abc.network import Attachment, NetworkList
from cored.cni import lists
from cored.cni.cache import Cache
from cored.cni.chain import Chain
from cored.cni.executables import Executables
from cored.errors import (
    CoredError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from cored.testing.stage import eventually
from tests.plugins import Plugins

pytestmark = pytest.mark.asyncio

TYPES = ("first", "second", "third")


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    made = Plugins(tmp_path / "plugins", *TYPES)
    for number, type in enumerate(TYPES, 1):
        made.answer(type, "ADD", result(number))
        versions = {"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}
        made.answer(type, "VERSION", versions)
    return made


@pytest.fixture
def chain(plugins: Plugins, tmp_path: Path) -> Chain:
    return Chain(Executables((plugins.path,), timeout=60), Cache(tmp_path / "results"))


def result(number: int, version: str = "1.0.0") -> dict[str, Any]:
    return {"cniVersion": version, "ips": [{"address": f"10.0.0.{number}/8"}], "dns": {}}


def network(version: str = "1.0.0", **more: Any) -> NetworkList:
    plugins = [{"type": type, "own": type} for type in TYPES]
    return lists.parse(
        json.dumps({"cniVersion": version, "name": "net", "plugins": plugins, **more})
    )


def wanted(config: NetworkList | None = None, **more: Any) -> Attachment:
    return Attachment("id1", "/run/ns", "eth0", config or network(), **more)


async def test_add_goes_through_the_chain_with_each_result(plugins: Plugins, chain: Chain) -> None:
    made = await chain.attach(wanted(args={"IgnoreUnknown": "1", "K": "V"}))
    calls = plugins.calls()
    assert [call.type for call in calls] == list(TYPES)
    for call in calls:
        assert dict(call.environment) == {
            "COMMAND": "ADD", "CONTAINERID": "id1", "NETNS": "/run/ns", "IFNAME": "eth0",
            "ARGS": "IgnoreUnknown=1;K=V", "PATH": plugins.path,
        }  # fmt: skip
        assert (call.config["name"], call.config["cniVersion"]) == ("net", "1.0.0")
        assert call.config["own"] == call.type
    assert [call.config.get("prevResult") for call in calls] == [None, result(1), result(2)]
    assert made.result == result(3)


async def test_del_goes_back_and_check_goes_forth_with_the_last_result(
    plugins: Plugins, chain: Chain
) -> None:
    made = await chain.attach(wanted())
    plugins.order()
    await chain.check(made)
    assert {json.dumps(call.config["prevResult"]) for call in plugins.calls()} == {
        json.dumps(result(3))
    }
    assert plugins.order() == [f"CHECK {type}" for type in TYPES]
    await chain.detach(made)
    assert all(call.config["prevResult"] == result(3) for call in plugins.calls())
    assert plugins.order() == [f"DEL {type}" for type in reversed(TYPES)]
    assert await chain.attachments() == []


async def test_old_lists_have_no_check_and_no_result_in_del(plugins: Plugins, chain: Chain) -> None:
    for type in TYPES:
        plugins.answer(type, "ADD", {"cniVersion": "0.3.1", "dns": {}})
    made = await chain.attach(wanted(network("0.3.1")))
    plugins.order()
    await chain.check(made)
    await chain.detach(made)
    assert [(call.command, "prevResult" in call.config) for call in plugins.calls()] == [
        ("DEL", False)
    ] * 3


async def test_checking_may_be_disabled(plugins: Plugins, chain: Chain) -> None:
    made = await chain.attach(wanted(network(disableCheck=True)))
    plugins.order()
    await chain.check(made)
    assert plugins.order() == []


async def test_capabilities_go_to_those_that_declare_them(plugins: Plugins, chain: Chain) -> None:
    given: dict[str, Any] = {
        "portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 8, "ingressBurst": 8},
        "ipRanges": [[{"subnet": "10.0.0.0/8"}]],
        "mac": "02:00:00:00:00:01",
        "ips": ["10.0.0.9"],
        "dns": {"servers": ["10.0.0.1"]},
        "aliases": {"net": ["one"]},
        "cgroupPath": "/one",
    }
    config = network()
    known = [dict.fromkeys(given, True), {"mac": True, "ips": False}, {}]
    declaring = [
        {**plugin, "capabilities": each, "runtimeConfig": "x", "cni.dev/y": 1}
        for plugin, each in zip(config.plugins, known, strict=True)
    ]
    await chain.attach(wanted(replace(config, plugins=declaring), capabilities=given))
    calls = plugins.calls()
    assert [call.config.get("runtimeConfig") for call in calls] == [
        given, {"mac": "02:00:00:00:00:01"}, None,
    ]  # fmt: skip
    assert not any({"capabilities", "cni.dev/y"} & set(call.config) for call in calls)


async def test_a_failed_add_is_undone_by_del_of_all(plugins: Plugins, chain: Chain) -> None:
    problem = {"cniVersion": "1.0.0", "code": 11, "msg": "no luck", "details": "today"}
    plugins.answer("second", "ADD", problem, code=1)
    with pytest.raises(Unavailable, match="network 'net': plugin second: no luck: today"):
        await chain.attach(wanted())
    calls = plugins.calls()
    assert [call.config.get("prevResult") for call in calls[2:]] == [result(1)] * 3
    assert plugins.order() == ["ADD first", "ADD second", "DEL third", "DEL second", "DEL first"]
    assert await chain.attachments() == []


async def test_what_could_not_be_undone_is_kept_until_it_is_collected(
    plugins: Plugins, chain: Chain
) -> None:
    plugins.answer("third", "ADD", {"code": 5, "msg": "broken"}, code=1)
    plugins.answer("first", "DEL", {"code": 11, "msg": "later"}, code=1)
    with pytest.raises(CoredError, match="broken"):
        await chain.attach(wanted())
    (kept,) = await chain.attachments()
    assert (kept.result, kept.finished) == (result(2), False)
    plugins.answer("first", "DEL", "")
    await chain.collect(network(), [])
    assert await chain.attachments() == []


async def test_every_plugin_is_asked_to_delete_though_one_fails(
    plugins: Plugins, chain: Chain
) -> None:
    made = await chain.attach(wanted())
    plugins.answer("second", "DEL", {"code": 5, "msg": "stuck"}, code=1)
    plugins.order()
    with pytest.raises(Internal, match="stuck"):
        await chain.detach(made)
    assert plugins.order() == [f"DEL {type}" for type in reversed(TYPES)]
    assert len(await chain.attachments()) == 1


async def test_a_namespace_that_is_gone_is_no_path(plugins: Plugins, chain: Chain) -> None:
    made = await chain.attach(wanted())
    plugins.order()
    await chain.detach(replace(made, netns=""))
    assert {call.environment["NETNS"] for call in plugins.calls()} == {""}


async def test_gc_says_what_is_valid_and_goes_to_all(plugins: Plugins, chain: Chain) -> None:
    for number, type in enumerate(TYPES, 1):
        plugins.answer(type, "ADD", result(number, "1.1.0"))
    config = network("1.1.0")
    stays = await chain.attach(wanted(config))
    await chain.attach(replace(wanted(config), container_id="id2"))
    plugins.order()
    plugins.answer("second", "GC", {"code": 5, "msg": "no"}, code=1)
    with pytest.raises(Internal, match="no"):
        await chain.collect(config, [stays])
    calls = plugins.calls()
    assert [call.environment["CONTAINERID"] for call in calls[:3]] == ["id2"] * 3
    assert all(
        call.config["cni.dev/valid-attachments"] == [{"containerID": "id1", "ifname": "eth0"}]
        for call in calls[3:]
    )
    assert plugins.order()[3:] == [f"GC {type}" for type in TYPES]
    assert [one.container_id for one in await chain.attachments()] == ["id1"]


async def test_gc_is_not_for_old_lists_nor_where_it_is_disabled(
    plugins: Plugins, chain: Chain
) -> None:
    await chain.collect(network("1.0.0"), [])
    await chain.collect(network("1.1.0", disableGC=True), [])
    assert plugins.order() == []


@pytest.mark.parametrize(("code", "error"), [(50, FailedPrecondition), (51, FailedPrecondition)])
async def test_a_status_that_is_not_ready_is_told(
    plugins: Plugins, chain: Chain, code: int, error: type[CoredError]
) -> None:
    await chain.status(network("1.1.0"))
    assert plugins.order() == [f"STATUS {type}" for type in TYPES]
    plugins.answer("second", "STATUS", {"code": code, "msg": "not yet"}, code=1)
    with pytest.raises(error, match="not yet"):
        await chain.status(network("1.1.0"))
    plugins.order()
    await chain.status(network("1.0.0"))
    assert plugins.order() == []


async def test_of_several_versions_the_plugins_are_asked_once(
    plugins: Plugins, chain: Chain
) -> None:
    plugins.answer("second", "VERSION", {"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]})
    config = network("1.1.0", cniVersions=["0.4.0", "1.0.0", "1.1.0"])
    made = await chain.attach(wanted(config))
    assert plugins.order()[:4] == [*(f"VERSION {type}" for type in TYPES), "ADD first"]
    assert (made.network.version, made.result["cniVersion"]) == ("1.0.0", "1.0.0")
    (kept,) = await chain.attachments()
    assert kept.network.version == "1.0.0"
    await chain.detach(made)
    assert {call.config["cniVersion"] for call in plugins.calls()} == {"1.0.0"}
    assert plugins.order() == [f"DEL {type}" for type in reversed(TYPES)]


@pytest.mark.parametrize(
    ("answer", "code", "said", "error", "match"),
    [
        ({"code": 7, "msg": "bad"}, 1, "", InvalidArgument, "plugin first: bad"),
        (
            {"code": 999, "msg": "no IP addresses available in range"},
            1,
            "",
            ResourceExhausted,
            "IP",
        ),
        ({"code": 0, "msg": ""}, 1, "", Internal, "error 0"),
        ("", 3, "panic: oh", Internal, "exit status 3: panic: oh"),
        ("", 4, "", Internal, "exit status 4: no message"),
        ("{", 0, "", Internal, "not JSON"),
        ("[]", 0, "", Internal, "not a JSON object"),
    ],
)
async def test_a_plugin_s_own_words_are_told(
    plugins: Plugins,
    chain: Chain,
    answer: Any,
    code: int,
    said: str,
    error: type[CoredError],
    match: str,
) -> None:
    plugins.answer("first", "ADD", answer, code, said)
    with pytest.raises(error, match=match):
        await chain.attach(wanted())


async def test_a_plugin_that_hangs_is_killed(plugins: Plugins, tmp_path: Path) -> None:
    plugins.hang("second", "ADD")
    chain = Chain(Executables((plugins.path,), timeout=3.0), Cache(tmp_path / "other"))
    with pytest.raises(DeadlineExceeded, match="plugin second: ADD took longer"):
        await chain.attach(wanted())
    assert await chain.attachments() == []


async def test_a_plugin_that_is_not_there_is_named(chain: Chain) -> None:
    config = lists.parse('{"cniVersion": "1.0.0", "name": "net", "type": "nosuch"}')
    with pytest.raises(InvalidArgument, match="plugin nosuch: not found in"):
        await chain.attach(wanted(config))
    assert await chain.attachments() == []


async def test_one_container_is_attached_by_one_call_at_a_time(
    plugins: Plugins, chain: Chain
) -> None:
    await asyncio.gather(*(chain.attach(replace(wanted(), ifname=f"eth{n}")) for n in range(3)))
    order = [call.type for call in plugins.calls()]
    assert order == [*TYPES] * 3


async def test_what_is_kept_is_read_by_libcni_s_tools_and_by_the_next_daemon(
    chain: Chain, tmp_path: Path
) -> None:
    asked = wanted(args={"K": "V"}, capabilities={"mac": "02:00:00:00:00:01"})
    made = await chain.attach(asked)
    path = tmp_path / "results/net-id1-eth0"
    assert json.loads(path.read_text())["kind"] == "cniCacheV1"
    assert path.stat().st_mode & 0o777 == 0o600
    cache = Cache(tmp_path / "results")
    assert list(cache.all()) == [made]
    assert made.finished
    (tmp_path / "results/.net-id2-eth0.new").touch()
    (tmp_path / "results/net-id3-eth0").write_text("{")
    assert list(cache.all()) == [made]
    cache.tidy()
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == [
        "net-id1-eth0", "net-id3-eth0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("id", "ifname"), [("../x", "eth0"), ("", "eth0"), ("x", "a/b"), ("x", "")]
)
async def test_names_that_are_no_names_are_refused(chain: Chain, id: str, ifname: str) -> None:
    with pytest.raises(InvalidArgument):
        await chain.attach(replace(wanted(), container_id=id, ifname=ifname))


async def test_what_a_dead_daemon_had_begun_is_undone_with_what_is_known(
    plugins: Plugins, tmp_path: Path
) -> None:
    plugins.hang("third", "ADD")
    chain = Chain(Executables((plugins.path,), timeout=60), Cache(tmp_path / "results"))
    attaching = asyncio.create_task(chain.attach(wanted()))
    await eventually(lambda: len(plugins.calls()) == 3)
    after = Chain(Executables((plugins.path,), timeout=60), Cache(tmp_path / "results"))
    (kept,) = await after.attachments()
    assert (kept.result, kept.finished) == (result(2), False)
    plugins.order()
    hanging = plugins.hanging()
    await after.detach(kept)
    assert {json.dumps(call.config["prevResult"]) for call in plugins.calls()} == {
        json.dumps(result(2))
    }
    attaching.cancel()
    os.kill(hanging, signal.SIGKILL)
    with pytest.raises(asyncio.CancelledError):
        await attaching
