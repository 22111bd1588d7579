"""The CRI without a kernel: cgroup v2's files, users, signals, devices, SPDY, the pause."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cored_service_cri import cdi, counters, identity, pause, resources, signals
from cored_service_cri.cgroups import Cgroups, Stall
from cored_service_cri.networks import _bandwidth
from cored_service_cri.stats import _memory
from cored_service_cri.streaming.spdyframes import Data, Decoder, Encoder, Headers, Ping, Syn
from cored_service_cri.values import Container, Pod

from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import InvalidArgument, NotFound, Unimplemented
from cored.oci.security import Host


def _cgroup_v2(root: Path) -> Path:
    place = root / "sys/fs/cgroup/kubepods.slice/pod1.slice/cored-x.scope"
    place.mkdir(parents=True)
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory\n")
    (root / "proc/7").mkdir(parents=True)
    (root / "proc/7/cgroup").write_text("0::/kubepods.slice/pod1.slice/cored-x.scope\n")
    files = {
        "cpu.stat": "usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\nnr_periods 4\n"
        "nr_throttled 2\nthrottled_usec 3000000\n",
        "cpu.max": "20000 100000\n",
        "cpu.weight": "100\n",
        "cpu.pressure": "some avg10=0.50 avg60=0.25 avg300=0.00 total=5000000\n",
        "memory.current": "5000\n",
        "memory.stat": "anon 3000\nfile 1500\ninactive_file 1000\npgfault 9\npgmajfault 1\n",
        "memory.max": "8000\n",
        "memory.swap.current": "10\n",
        "memory.swap.max": "max\n",
        "memory.events": "max 3\noom_kill 1\n",
        "pids.current": "3\n",
        "pids.max": "max\n",
        "cgroup.procs": "",
        "cgroup.threads": "1\n2\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2\n",
    }
    for name, text in files.items():
        (place / name).write_text(text)
    (place.parent / "memory.current").write_text("9000\n")
    return place


def test_usage_is_read_from_cgroup_v2(tmp_path: Path) -> None:
    _cgroup_v2(tmp_path)
    cgroups = Cgroups(tmp_path)
    cgroups.learn("x", 7)
    usage = cgroups.usage("x")
    assert usage is not None
    assert (usage.cpu, usage.memory, usage.working_set) == (2 * 10**9, 5000, 4000)
    assert (usage.limit, usage.swap, usage.swap_limit, usage.pids) == (8000, 10, 0, 3)
    assert cgroups.oom_killed("x")
    assert usage.pressure["cpu"] == {"some": Stall(5 * 10**9, 0.5, 0.25, 0.0)}
    psi = _memory(replace(usage, pressure={"memory": usage.pressure["cpu"]})).psi
    assert (psi.Some.Total, psi.Some.Avg10, psi.Full.Total) == (5 * 10**9, 0.5, 0)
    above = cgroups.usage("x", above=True)
    assert above is not None and above.memory == 9000
    cgroups.forget("x")
    assert cgroups.usage("x") is None and not cgroups.oom_killed("x")


def test_metrics_are_read_from_cgroup_v2(tmp_path: Path) -> None:
    place = _cgroup_v2(tmp_path)
    found = counters.read({"": place}, True).values
    values = {name: samples[0][1] for name, samples in found.items()}
    assert values["container_cpu_usage_seconds_total"] == 2
    assert values["container_cpu_cfs_throttled_seconds_total"] == 3
    assert values["container_spec_cpu_quota"] == 20000
    assert values["container_memory_working_set_bytes"] == 4000
    assert values["container_oom_events_total"] == 1
    assert values["container_pressure_cpu_waiting_seconds_total"] == 5
    assert values["container_threads"] == 2 and values["container_threads_max"] == 0
    assert found["container_fs_writes_bytes_total"][0][1] == 20


def test_a_cgroup_is_named_as_its_driver_names_it() -> None:
    assert resources.cgroup_path("/kubepods/pod1", "x") == "/kubepods/pod1/x"
    assert resources.cgroup_path("", "x") == "/k8s.io/x"
    slice = "/kubepods.slice/kubepods-pod1.slice"
    assert resources.cgroup_path(slice, "x") == "kubepods-pod1.slice:cored:x"
    assert resources.is_systemd(slice) and not resources.is_systemd("/kubepods/pod1")


def test_limits_without_swap_and_with_unified_files() -> None:
    wanted = pb.LinuxContainerResources(memory_limit_in_bytes=100, cpu_shares=2)
    assert resources.document(wanted, Host()) == {
        "memory": {"limit": 100, "swap": 100},
        "cpu": {"shares": 2},
    }
    assert resources.document(wanted, Host(swap=False))["memory"] == {"limit": 100}
    wanted.unified["memory.high"] = "90"
    with pytest.raises(InvalidArgument):
        resources.document(wanted, Host())
    assert resources.document(wanted, Host(cgroup_v2=True))["unified"] == {"memory.high": "90"}
    assert resources.oom_score(-999, Host(oom_floor=-500)) == -500


PASSWD = "root:x:0:0:::\nann:x:7:8:::\n1001:x:0:0:::\n"
GROUP = "root:x:0:\nann:x:8:\nteam:x:9:ann,bob\n1001:x:0:\n"


@pytest.mark.parametrize(
    ("context", "image", "expected"),
    [
        ({}, "", (0, 0, (0,))),
        ({}, "ann", (7, 8, (8, 9))),
        ({}, "ann:team", (7, 9, (9,))),
        ({"run_as_user": pb.Int64Value(value=7)}, "root", (7, 8, (8, 9))),
        ({"run_as_user": pb.Int64Value(value=55)}, "ann", (55, 0, (0,))),
        # a number is never who is called like it
        ({"run_as_user": pb.Int64Value(value=1001)}, "", (1001, 0, (0,))),
        ({}, "ann:1001", (7, 1001, (1001, 9))),
        ({"run_as_username": "ann", "supplemental_groups": [3]}, "", (7, 8, (8, 9, 3))),
        (
            {"run_as_username": "ann", "supplemental_groups_policy": pb.Strict},
            "",
            (7, 8, (8,)),
        ),
    ],
)
def test_users_are_the_pods_or_the_images(
    context: dict[str, Any], image: str, expected: tuple[int, int, tuple[int, ...]]
) -> None:
    security = pb.LinuxContainerSecurityContext(**context)
    found = identity.resolve(security, image, PASSWD, GROUP)
    assert (found.uid, found.gid, found.groups) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("SIGTERM", 15), ("usr1", 10), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAXMINUS14", 50),
     ("SIGPOLL", 29), ("SIGIOT", 6)],
)  # fmt: skip
def test_signals_in_every_spelling(text: str, expected: int) -> None:
    assert signals.number(text) == expected


def test_every_signal_of_the_wire_is_one() -> None:
    for name, number in pb.Signal.items():
        if number:
            config = pb.ContainerConfig(stop_signal=number)
            one = Container("x", config, Pod("p", pb.PodSandboxConfig()))
            assert signals.stop_signal(one) > 0 and signals.named(one) == name
    with pytest.raises(InvalidArgument):
        signals.number("SIGNOTHING")


def _spec() -> dict[str, Any]:
    return {
        "process": {"env": ["A=1"], "user": {}},
        "mounts": [],
        "linux": {"devices": [], "resources": {"devices": []}},
    }


def test_devices_edit_a_spec(tmp_path: Path) -> None:
    document = {
        "kind": "a.b/c",
        "containerEdits": {"env": ["A=2"]},
        "devices": [
            {
                "name": "x",
                "containerEdits": {
                    "deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null"}],
                    "mounts": [{"hostPath": "/h", "containerPath": "/c"}],
                    "hooks": [{"hookName": "createContainer", "path": "/hook"}],
                    "additionalGids": [5],
                },
            }
        ],
    }
    (tmp_path / "one.json").write_text(json.dumps(document))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.yaml").write_text("{")
    (tmp_path / "two.yaml").write_text(
        "kind: a.b/d\ndevices:\n- name: '1'\n  containerEdits: {env: [B=3]}\n"
    )
    spec = _spec()
    cdi.inject(spec, ["a.b/d=1"], (tmp_path,))
    assert spec["process"]["env"] == ["A=1", "B=3"]
    spec = _spec()
    cdi.inject(spec, ["a.b/c=x"], (tmp_path,))
    assert spec["process"] == {"env": ["A=2"], "user": {"additionalGids": [5]}}
    assert spec["linux"]["devices"][0]["path"] == "/dev/x"
    assert spec["linux"]["devices"][0]["major"] == 1
    assert spec["mounts"][0]["source"] == "/h"
    assert spec["hooks"] == {"createContainer": [{"path": "/hook"}]}
    for name, error in (("a.b/c=y", NotFound), ("nonsense", InvalidArgument)):
        with pytest.raises(error):
            cdi.inject(_spec(), [name], (tmp_path,))


def test_spdy_frames_survive_any_cut() -> None:
    encoder = Encoder()
    data = (
        encoder.syn(1, {"streamtype": "data", "port": "80"})
        + encoder.data(1, b"hello")
        + encoder.ping(7)
        + encoder.reply(1)
        + encoder.data(1, b"", fin=True)
    )
    expected = [
        Syn(1, False, {"streamtype": "data", "port": "80"}),
        Data(1, False, b"hello"),
        Ping(7),
        Headers(1, False, {}),
        Data(1, True, b""),
    ]
    for step in (1, 7, len(data)):
        decoder = Decoder()
        found = []
        for start in range(0, len(data), step):
            found += decoder.feed(data[start : start + step])
        assert found == expected


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">II", 0x80020001, 0),  # version 2
        struct.pack(">II", 1, 0xFFFFFF),  # longer than any frame may be
        struct.pack(">II", 0x80030001, 12) + b"\0" * 10 + b"xx",  # headers that are not compressed
        struct.pack(">II", 0x80030006, 1) + b"x",  # a ping that is cut off
    ],
)
def test_what_is_no_spdy_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        list(Decoder().feed(data))


def test_bandwidth_is_a_quantity() -> None:
    burst = (1 << 31) - 1
    assert _bandwidth("10M", "1Ki") == {
        "ingressRate": 10_000_000, "ingressBurst": burst, "egressRate": 1024, "egressBurst": burst,
    }  # fmt: skip
    with pytest.raises(InvalidArgument):
        _bandwidth("fast", "")


def test_the_pause_is_a_program_for_each_machine() -> None:
    for machine, number in (("x86_64", 62), ("aarch64", 183)):
        program = pause.executable(machine)
        assert program[:4] == b"\x7fELF" and struct.unpack_from("<H", program, 18) == (number,)
        (entry,) = struct.unpack_from("<Q", program, 24)
        size, memory = struct.unpack_from("<QQ", program, 64 + 32)
        assert size == memory == len(program) and 0x400000 < entry < 0x400000 + size
    with pytest.raises(Unimplemented):
        pause.executable("pdp11")


def test_the_first_pods_make_the_pauses_root_together(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        places = list(pool.map(lambda _: pause.rootfs(tmp_path / "pause"), range(200)))
    assert set(places) == {tmp_path / "pause"}
    assert [path.name for path in (tmp_path / "pause").iterdir() if path.is_file()] == ["pause"]
