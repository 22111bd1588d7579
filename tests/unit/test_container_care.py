"""Restart policies, health, journals, CDI, usage: what is decided without a kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cored_service_workloads import usage
from hypothesis import given
from hypothesis import strategies as some

from cored._pb.io.containerd.cgroups.v1 import metrics_pb2 as v1
from cored._pb.io.containerd.cgroups.v2 import metrics_pb2 as v2
from cored.abc.runtime import Exit, Stdio
from cored.abc.values import Typed
from cored.engine import cdi, health, processes, restarts
from cored.engine.journal import Happening, _passes, parsed
from cored.engine.recipe import joinable
from cored.engine.restarts import Backoff
from cored.engine.volumes.local import _unescaped
from cored.engine.workload import ContainerState, Health, HealthCheck, Probe, RestartPolicy
from cored.errors import CoredError, InvalidArgument, NotFound

KEY = ("default", "x")


@pytest.mark.parametrize(
    ("policy", "state", "now", "boot"),
    [
        (RestartPolicy(), {"exit_status": 1}, False, False),
        (RestartPolicy("no"), {"exit_status": 1}, False, False),
        (RestartPolicy("always"), {}, True, True),
        (RestartPolicy("always"), {"stopped": True}, False, True),
        (RestartPolicy("unless-stopped"), {}, True, True),
        (RestartPolicy("unless-stopped"), {"stopped": True}, False, False),
        (RestartPolicy("on-failure"), {}, False, False),
        (RestartPolicy("on-failure"), {"exit_status": 1, "restarts": 99}, True, True),
        (RestartPolicy("on-failure", 2), {"exit_status": 1, "restarts": 1}, True, True),
        (RestartPolicy("on-failure", 2), {"exit_status": 1, "restarts": 2}, False, False),
        (RestartPolicy("on-failure"), {"exit_status": 137, "stopped": True}, False, False),
    ],
)
def test_who_is_started_again(
    policy: RestartPolicy, state: dict[str, Any], now: bool, boot: bool
) -> None:
    assert restarts.wanted(policy, ContainerState(**state)) is now
    assert restarts.wanted(policy, ContainerState(**state), boot=True) is boot


def test_the_wait_doubles_to_a_minute_and_a_good_run_resets_it() -> None:
    backoff, second = Backoff(), 10**9
    short = [backoff.next(KEY, second, Exit(1, 1, 2 * second)) for _ in range(12)]
    assert short[:4] == [0.1, 0.2, 0.4, 0.8]
    assert short[-1] == 60.0
    assert backoff.next(KEY, second, Exit(1, 1, 11 * second)) == 0.1
    backoff.next(KEY, second, Exit(1, 1, second))
    backoff.forget(KEY)
    assert backoff.next(KEY, second, Exit(1, 1, second)) == 0.1


def probe(code: int) -> Probe:
    return Probe(1, 2, code, "")


def test_health_turns_bad_after_so_many_failures_and_good_after_one_success() -> None:
    state = health.judged(Health(), probe(1), 2, starting=False)
    assert (state.status, state.failing_streak) == ("starting", 1)
    state = health.judged(state, probe(1), 2, starting=False)
    assert (state.status, state.failing_streak) == ("unhealthy", 2)
    state = health.judged(state, probe(0), 2, starting=False)
    assert (state.status, state.failing_streak) == ("healthy", 0)


def test_failures_do_not_count_in_the_start_period_until_it_was_well_once() -> None:
    state = health.judged(Health(), probe(1), 1, starting=True)
    assert (state.status, state.failing_streak) == ("starting", 0)
    state = health.judged(state, probe(0), 1, starting=True)
    state = health.judged(state, probe(1), 1, starting=True)
    assert state.status == "unhealthy"


@given(some.lists(some.integers(0, 1)))
def test_only_the_last_looks_are_kept(codes: list[int]) -> None:
    state = Health()
    for code in codes:
        state = health.judged(state, probe(code), 3, starting=False)
    assert [one.exit_code for one in state.log] == codes[-5:]


def test_what_is_said_of_health_goes_over_what_the_image_says() -> None:
    image = HealthCheck(("CMD", "true"), interval=7, retries=4)
    assert health.merged(None, image) == image
    assert health.merged(HealthCheck(interval=9), image) == HealthCheck(
        ("CMD", "true"), interval=9, retries=4
    )
    assert health.merged(HealthCheck(("NONE",)), image) is None
    assert health.merged(None, None) is None
    assert health.merged(HealthCheck(interval=9), None) is None
    with pytest.raises(InvalidArgument, match="none of NONE"):
        health.check(HealthCheck(("SHELL", "x")))


HAPPENED = Happening(
    1, "default", "container", "health_status: healthy", "abcdef",
    {"name": "web", "image": "docker.io/library/busybox:latest", "tier": "front"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ([], True),
        (["container=web"], True),
        (["container=abc"], True),
        (["container=other", "container=web"], True),
        (["container=other"], False),
        (["event=health_status"], True),
        (["event=health"], False),
        (["type=container", "event=die"], False),
        (["image=busybox"], True),
        (["label=tier"], True),
        (["label=tier=front", "label=other"], False),
        (["volume=web"], False),
    ],
)
def test_filters_of_events(filters: list[str], passes: bool) -> None:
    assert _passes(HAPPENED, "default", parsed(filters)) is passes
    assert not _passes(HAPPENED, "another", parsed(filters))


def test_unknown_filters_of_events_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        parsed(["colour=red"])


def spec() -> dict[str, Any]:
    return {
        "process": {"env": ["A=old", "B=2"], "user": {}},
        "mounts": [],
        "linux": {"devices": [], "resources": {"devices": []}},
    }


def test_cdi_files_change_a_spec(tmp_path: Path) -> None:
    document = {
        "cdiVersion": "0.6.0",
        "kind": "vendor.com/gpu",
        "containerEdits": {"env": ["A=new"]},
        "devices": [
            {
                "name": "0",
                "containerEdits": {
                    "deviceNodes": [{"path": "/dev/null"}],
                    "mounts": [{"hostPath": "/h", "containerPath": "/c", "options": ["ro"]}],
                    "hooks": [{"hookName": "createContainer", "path": "/x", "args": ["x"]}],
                    "additionalGids": [44],
                },
            }
        ],
    }
    (tmp_path / "vendor.json").write_text(json.dumps(document))
    (tmp_path / "broken.json").write_text("{")
    made = spec()
    for edits in cdi.found(["vendor.com/gpu=0"], [tmp_path]):
        edits.apply(made)
    assert made["process"]["env"] == ["B=2", "A=new"]
    assert made["process"]["user"]["additionalGids"] == [44]
    assert made["linux"]["devices"] == [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]
    assert made["linux"]["resources"]["devices"][0]["access"] == "rwm"
    assert made["mounts"][0]["destination"] == "/c"
    assert made["hooks"]["createContainer"] == [{"path": "/x", "args": ["x"]}]
    with pytest.raises(NotFound, match=r"vendor\.com/gpu=0"):
        cdi.found(["vendor.com/gpu=1"], [tmp_path, tmp_path / "none"])


def test_usage_of_both_cgroup_versions() -> None:
    one = v1.Metrics()
    one.cpu.usage.total, one.pids.current = 5_000, 3
    one.memory.usage.usage, one.memory.usage.limit, one.memory.total_inactive_file = 100, 2**63, 40
    one.blkio.io_service_bytes_recursive.add(op="Read", value=7)
    one.blkio.io_service_bytes_recursive.add(op="write", value=8)
    found = usage.sample(Typed("io.containerd.cgroups.v1.Metrics", one.SerializeToString()), 0, 999)
    numbers = (found.cpu, found.memory, found.limit, found.read, found.written, found.pids)
    assert numbers == (5_000, 60, 999, 7, 8, 3)
    two = v2.Metrics()
    two.cpu.usage_usec, two.pids.current = 5, 3
    two.memory.usage, two.memory.usage_limit, two.memory.inactive_file = 100, 500, 40
    two.io.usage.add(rbytes=7, wbytes=8)
    found = usage.sample(Typed("io.containerd.cgroups.v2.Metrics", two.SerializeToString()), 0, 999)
    numbers = (found.cpu, found.memory, found.limit, found.read, found.written, found.pids)
    assert numbers == (5_000, 60, 500, 7, 8, 3)


def test_the_share_of_cpus_is_that_between_two_looks() -> None:
    before, now = usage.Sample(0, cpu=0), usage.Sample(10**9, cpu=2 * 10**9)
    assert usage.shown("id", "name", before, now).cpu_percent == 200.0
    assert usage.shown("id", "name", None, now).cpu_percent == 0.0


def test_bytes_of_interfaces_but_the_loopback() -> None:
    rows = ["h1", "h2", "  lo: 9 0 0 0 0 0 0 0 9 0", "eth0: 5 0 0 0 0 0 0 0 6 0"]
    assert usage.network("\n".join(rows)) == (5, 6)


def test_only_the_containers_own_rows_of_ps() -> None:
    text = "UID PID CMD\nroot 1 init x\nme 22 sleep 1 2\n"
    assert processes.table(text, {22}) == (["UID", "PID", "CMD"], [["me", "22", "sleep 1 2"]])
    with pytest.raises(CoredError):
        processes.table("CMD\nx\n", {1})


def test_the_pipes_of_a_task_are_found_in_its_streams() -> None:
    made = joinable(Stdio("/in", "json-file:///l?copy=/a%20b", "none://", terminal=False))
    assert (made.stdin, made.stdout, made.stderr) == ("/in", "/a b", "")


def test_places_in_mountinfo() -> None:
    assert _unescaped(r"/a\040b\134c") == "/a b\\c"
