"""Network configuration lists and results, of every version of the protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cored.cni import lists, results
from cored.errors import InvalidArgument, NotFound

GOOD = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}]}


@pytest.mark.parametrize("version", lists.VERSIONS)
def test_every_version_is_read(version: str) -> None:
    assert lists.parse(json.dumps({**GOOD, "cniVersion": version})).version == version


def test_a_single_plugin_is_a_list_of_one() -> None:
    found = lists.parse('{"name": "net", "type": "bridge", "bridge": "br0"}')
    assert found.version == "0.1.0"
    assert list(found.plugins) == [{"type": "bridge", "bridge": "br0"}]


def test_of_several_versions_the_newest_that_all_speak_is_chosen() -> None:
    table = {**GOOD, "cniVersion": "0.4.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0", "9.0.0"]}
    found = lists.parse(json.dumps(table))
    assert found.version == "1.1.0"
    chosen = lists.chosen(found, [["0.4.0", "1.0.0"], lists.VERSIONS])
    assert chosen.version == "1.0.0"
    # and stays chosen when the list is written and read
    assert lists.parse(json.dumps(lists.document(chosen))).version == "1.0.0"
    assert lists.chosen(found, [["0.1.0"], ["1.0.0"]]).version == "1.1.0"


def test_flags_may_be_strings() -> None:
    found = lists.parse(json.dumps({**GOOD, "disableCheck": "true", "disableGC": True}))
    assert (found.disable_check, found.disable_gc) == (True, True)
    assert lists.parse(json.dumps(lists.document(found))) == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "no 'name'"),
        ({"name": "a/b"}, "invalid"),
        ({"name": ".."}, "invalid"),
        ({"cniVersion": "0.9.9"}, "not spoken"),
        ({"plugins": []}, "at least one"),
        ({"plugins": {}}, "at least one"),
        ({"plugins": ["bridge"]}, "without a 'type'"),
        ({"plugins": [{"type": "../sh"}]}, "not a file's name"),
        ({"plugins": [{"type": ""}]}, "not a file's name"),
        ({"disableCheck": "maybe"}, "true or false"),
    ],
)
def test_a_bad_list_is_refused_with_the_reason(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        lists.parse(json.dumps({**GOOD, **change}), "/etc/cni/net.d/10-x.conflist")


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="JSON"):
        lists.parse(text)


def test_a_directory_is_read_by_file_name_without_what_is_broken(tmp_path: Path) -> None:
    for name, network in (("20.conflist", "b"), ("10.conf", "a"), ("30.json", "a")):
        (tmp_path / name).write_text(json.dumps({**GOOD, "name": network}))
    (tmp_path / "05.conflist").write_text("{")
    (tmp_path / "40.txt").write_text(json.dumps(GOOD))
    found = lists.search(tmp_path)
    assert [(one.name, Path(one.source).name) for one in found] == [
        ("a", "10.conf"), ("b", "20.conflist"),
    ]  # fmt: skip
    assert lists.search(tmp_path / "nowhere") == []
    with pytest.raises(NotFound):
        lists.read(tmp_path / "nothing")


NEWEST = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "br0", "mac": "02:00:00:00:00:01", "mtu": 1400},
        {"name": "eth0", "sandbox": "/ns", "socketPath": "/s"},
    ],
    "ips": [
        {"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1},
        {"address": "fd00::2/64", "interface": 1},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1300}, {"dst": "::/0"}],
    "dns": {"nameservers": ["10.1.0.1"]},
}


def test_a_result_of_the_newest_version_is_kept_whole() -> None:
    assert results.to_json(results.from_json(NEWEST), "1.1.0") == NEWEST


def test_older_versions_say_the_address_s_family() -> None:
    for version, families in (("0.3.0", ["4", "6"]), ("0.4.0", ["4", "6"]), ("1.0.0", [None] * 2)):
        told = results.to_json(results.from_json(NEWEST), version)
        assert told["cniVersion"] == version
        assert [one.get("version") for one in told["ips"]] == families
        assert "mtu" not in told["interfaces"][0]
        assert "mtu" not in told["routes"][0]
        assert results.from_json(told).ips == results.from_json(NEWEST).ips


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_oldest_have_an_address_of_each_family_and_no_interfaces(version: str) -> None:
    told = results.to_json(results.from_json(NEWEST), version)
    assert told == {
        "cniVersion": version,
        "ip4": {
            "ip": "10.1.0.2/24",
            "gateway": "10.1.0.1",
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
        },
        "ip6": {"ip": "fd00::2/64", "routes": [{"dst": "::/0"}]},
        "dns": {"nameservers": ["10.1.0.1"]},
    }
    back = results.from_json(told)
    assert [one.address for one in back.ips] == ["10.1.0.2/24", "fd00::2/64"]
    assert [one.dst for one in back.routes] == ["0.0.0.0/0", "::/0"]


@pytest.mark.parametrize(
    "table",
    [
        {"ips": [{}]},
        {"ips": [{"address": "x"}]},
        {"routes": [{}]},
        {"ips": 1},
        {"ip4": {"ip": 1.5}},
    ],
)
def test_a_malformed_result_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        results.from_json(table)
