"""What corectl's users write: times, mounts, keys, GPUs; and where cp puts things."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from corectl.care import gpus, restart_policy
from corectl.copying import _landing, place
from corectl.files import environment, mode
from corectl.keys import DetachKeys, parsed
from corectl.mounts import mount, volume
from corectl.times import duration, moment
from hypothesis import given
from hypothesis import strategies as some

from cored.errors import InvalidArgument, NotFound


@pytest.mark.parametrize(
    ("text", "ns"),
    [("", 0), ("0", 0), ("30s", 30 * 10**9), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9),
     ("500ms", 5 * 10**8), ("1.h2d", 49 * 3600 * 10**9)],
)  # fmt: skip
def test_durations(text: str, ns: int) -> None:
    assert duration(text) == ns


@pytest.mark.parametrize("text", ["30", "s", "1x", "-1s", "1 s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidArgument):
        duration(text)


def test_moments() -> None:
    assert moment("1700000000") == 1700000000 * 10**9
    assert moment("1700000000.5") == 1700000000 * 10**9 + 5 * 10**8
    assert moment("2023-11-14T22:13:20Z") == 1700000000 * 10**9
    assert moment("2023-11-14T23:13:20.000000001+01:00") == 1700000000 * 10**9 + 1
    assert moment("2023-11-14T22:13Z") == 1699999980 * 10**9
    assert moment("2023-11-14Z") == 1699920000 * 10**9
    assert moment("2023-11-14 22:13:20Z") == 1700000000 * 10**9
    assert abs(moment("now") - time.time_ns()) < 60 * 10**9
    assert abs(moment("-10m") - (time.time_ns() + 600 * 10**9)) < 60 * 10**9
    assert moment("1h30m.5s") < moment("1h30m") < moment("-1s")
    assert abs(moment("10m") - (time.time_ns() - 600 * 10**9)) < 60 * 10**9
    for text in ("soon", "2023-13-01", ""):
        with pytest.raises(InvalidArgument):
            moment(text)


def test_volumes_in_short() -> None:
    assert volume("/x").target == "/x"
    named: Any = volume("name:/x:ro,nocopy")
    assert (named.name, named.target, named.read_only, named.no_copy) == ("name", "/x", True, True)
    bound: Any = volume("/a:/b:rshared")
    assert (bound.source, bound.propagation, bound.create_source) == ("/a", "rshared", True)
    here: Any = volume("./a:/b")
    assert here.source == str(Path.cwd() / "a")


def test_mounts_in_long() -> None:
    bound: Any = mount("type=bind,source=/a,destination=/b,ro,bind-propagation=shared")
    assert (bound.source, bound.target, bound.read_only, bound.create_source) == (
        "/a", "/b", True, False,
    )  # fmt: skip
    named: Any = mount('dst=/b,volume-driver=x,"volume-opt=o=a,b",volume-opt=device=d')
    assert (named.name, named.driver, dict(named.options)) == (
        "", "x", {"o": "a,b", "device": "d"},
    )  # fmt: skip
    memory: Any = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770,readonly=true")
    assert memory.options == "ro,size=1048576,mode=1770"


@pytest.mark.parametrize(
    "text",
    ["", "type=bind,src=/a", "type=bind,dst=/b", "type=none,dst=/b", "dst=b", "dst=/b,colour=red",
     "dst=/b,volume-subpath"],
)  # fmt: skip
def test_mounts_that_make_no_sense(text: str) -> None:
    with pytest.raises(InvalidArgument):
        mount(text)


def test_detach_keys() -> None:
    assert parsed("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parsed("ctrl-],a,ctrl-@") == b"\x1da\x00"
    for text in ("ctrl-", "ab", "ctrl-1", "é"):
        with pytest.raises(InvalidArgument):
            parsed(text)
    keys = DetachKeys()
    assert keys.feed(b"ls\x10") == (b"ls", False)
    assert keys.feed(b"x") == (b"\x10x", False)
    assert keys.feed(b"\x10\x10\x11never") == (b"\x10", True)


@given(some.lists(some.sampled_from([b"a", b"\x10", b"b"])), some.integers(1, 4))
def test_what_is_not_the_sequence_is_passed_on_whole(keys: list[bytes], block: int) -> None:
    scanner, data = DetachKeys(), b"".join(keys) + b"end"
    out = b""
    for start in range(0, len(data), block):
        passed, left = scanner.feed(data[start : start + block])
        assert not left
        out += passed
    assert out == data


def test_policies_and_gpus() -> None:
    found: Any = restart_policy("on-failure:3")
    assert (found.name, found.maximum) == ("on-failure", 3)
    assert restart_policy("") is None
    with pytest.raises(InvalidArgument):
        restart_policy("on-failure:x")
    assert gpus("all") == ["nvidia.com/gpu=all"]
    assert gpus("2") == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
    assert gpus('"device=1,3"') == ["nvidia.com/gpu=1", "nvidia.com/gpu=3"]
    with pytest.raises(InvalidArgument):
        gpus("many")


def test_files_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "o")
    monkeypatch.delenv("NOT_OURS", raising=False)
    (tmp_path / "f").write_text("\ufeff# c\n\n  A=1=2\nOURS\nNOT_OURS\n", "utf-8")
    assert environment([str(tmp_path / "f")]) == ["A=1=2", "OURS=o"]
    (tmp_path / "f").write_text("with space=1\n")
    with pytest.raises(InvalidArgument):
        environment([str(tmp_path / "f")])
    with pytest.raises(NotFound):
        environment([str(tmp_path / "none")])
    assert (mode("0027"), mode("")) == (0o27, None)
    for text in ("999", "x", "-1"):
        with pytest.raises(InvalidArgument):
            mode(text)


def test_sides_of_cp() -> None:
    assert place("box:/a") == ("box", "/a")
    assert place("box:") == ("box", "/")
    assert place("/a:b") is None
    assert place("./a:b") is None
    assert place("-") is None


@pytest.mark.parametrize(
    ("source", "name", "tree", "target", "exists", "is_dir", "slash", "landing"),
    [
        ("/f", "f", False, "/t", False, False, False, ("/", "t")),
        ("/f", "f", False, "/t", True, False, False, ("/", "t")),
        ("/f", "f", False, "/t", True, True, False, ("/t", "f")),
        ("/f", "f", False, "t", False, False, False, (".", "t")),
        ("/d", "d", True, "/t", False, False, False, ("/", "t")),
        ("/d", "d", True, "/t", True, True, False, ("/t", "d")),
        ("/d/.", ".", True, "/t", True, True, False, ("/t", ".")),
        ("/d/.", ".", True, "/t", False, False, False, ("/", "t")),
    ],
)
def test_where_cp_puts_things(
    source: str, name: str, tree: bool, target: str, exists: bool, is_dir: bool, slash: bool,
    landing: tuple[str, str],
) -> None:  # fmt: skip
    assert _landing(source, name, tree, target, exists, is_dir, slash) == landing


@pytest.mark.parametrize(("tree", "exists"), [(True, True), (False, False), (False, True)])
def test_what_cp_refuses(tree: bool, exists: bool) -> None:
    with pytest.raises((InvalidArgument, NotFound)):
        _landing("/x", "x", tree, "/t", exists, False, True)
