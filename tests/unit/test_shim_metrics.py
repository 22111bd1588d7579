"""The shim's counters from cgroup files of both versions, as the messages that clients read."""

from __future__ import annotations

from pathlib import Path

from coreshim.metrics import metrics

from cored._pb.io.containerd.cgroups.v1 import metrics_pb2 as v1
from cored._pb.io.containerd.cgroups.v2 import metrics_pb2 as v2


def tree(root: Path, files: dict[str, str]) -> str:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return str(root)


def test_version_1(tmp_path: Path) -> None:
    names = ("cpu,cpuacct", "memory", "pids", "blkio", "hugetlb")
    cgroup = "/sys/fs/cgroup"
    root = tree(
        tmp_path,
        {
            "proc/7/cgroup": "".join(f"{n}:{c}:/box\n" for n, c in enumerate(names)),
            f".{cgroup}/pids/box/pids.current": "3\n",
            f".{cgroup}/pids/box/pids.max": "max\n",
            f".{cgroup}/cpuacct/box/cpuacct.usage": "5000\n",
            f".{cgroup}/cpuacct/box/cpuacct.usage_percpu": "2000 3000 \n",
            f".{cgroup}/cpuacct/box/cpuacct.stat": "user 2\nsystem 1\n",
            f".{cgroup}/cpu/box/cpu.stat": "nr_periods 4\nnr_throttled 2\nthrottled_time 99\n",
            f".{cgroup}/memory/box/memory.stat": "cache 10\nrss 20\ntotal_unevictable 30\n",
            f".{cgroup}/memory/box/memory.usage_in_bytes": "4096\n",
            f".{cgroup}/memory/box/memory.limit_in_bytes": "8192\n",
            f".{cgroup}/memory/box/memory.memsw.max_usage_in_bytes": "5000\n",
            f".{cgroup}/memory/box/memory.oom_control": (
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
            ),
            f".{cgroup}/blkio/box/blkio.throttle.io_service_bytes": (
                "8:0 Read 100\n8:0 Write 200\n8:0 Total 300\nTotal 300\n"
            ),
            f".{cgroup}/hugetlb/box/hugetlb.2MB.usage_in_bytes": "1\n",
            f".{cgroup}/hugetlb/box/hugetlb.2MB.max_usage_in_bytes": "2\n",
            f".{cgroup}/hugetlb/box/hugetlb.2MB.failcnt": "3\n",
            f".{cgroup}/hugetlb/box/hugetlb.2MB.rsvd.usage_in_bytes": "9\n",
        },
    )
    url, data = metrics(7, root)
    assert url == v1.Metrics.DESCRIPTOR.full_name
    found = v1.Metrics.FromString(data)
    assert (found.pids.current, found.pids.limit) == (3, 0)
    assert (found.cpu.usage.total, list(found.cpu.usage.per_cpu)) == (5000, [2000, 3000])
    assert (found.cpu.usage.user, found.cpu.usage.kernel) == (20_000_000, 10_000_000)
    throttling = found.cpu.throttling
    assert (throttling.periods, throttling.throttled_periods, throttling.throttled_time) == (
        4,
        2,
        99,
    )
    assert (found.memory.cache, found.memory.rss, found.memory.total_unevictable) == (10, 20, 30)
    assert (found.memory.usage.usage, found.memory.usage.limit) == (4096, 8192)
    assert found.memory.swap.max == 5000
    assert found.memory_oom_control.oom_kill == 2
    entries = found.blkio.io_service_bytes_recursive
    assert [(e.op, e.major, e.minor, e.value) for e in entries] == [
        ("Read", 8, 0, 100),
        ("Write", 8, 0, 200),
        ("Total", 8, 0, 300),
    ]
    (huge,) = found.hugetlb  # reservations are none of the sizes
    assert (huge.usage, huge.max, huge.failcnt, huge.pagesize) == (1, 2, 3, "2MB")


def test_version_1_without_controllers_has_every_part(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/7/cgroup": "1:name=systemd:/box\n"})
    found = v1.Metrics.FromString(metrics(7, root)[1])
    for part in ("pids", "cpu", "memory", "blkio", "rdma", "memory_oom_control"):
        assert found.HasField(part)
    assert found.cpu.HasField("usage")
    assert found.cpu.HasField("throttling")
    for part in ("usage", "swap", "kernel", "kernel_tcp"):
        assert found.memory.HasField(part)


def test_version_2(tmp_path: Path) -> None:
    cgroup = "./sys/fs/cgroup"
    root = tree(
        tmp_path,
        {
            "proc/7/cgroup": "0::/box\n",
            f"{cgroup}/cgroup.controllers": "cpu io memory pids\n",
            f"{cgroup}/box/pids.current": "3\n",
            f"{cgroup}/box/pids.max": "max\n",
            f"{cgroup}/box/cpu.stat": (
                "usage_usec 50\nuser_usec 30\nsystem_usec 20\nnr_periods 4\nnr_throttled 2\n"
                "throttled_usec 9\nnr_bursts 1\nburst_usec 8\n"
            ),
            f"{cgroup}/box/memory.stat": (
                "anon 10\nfile 20\npgfault 5\nworkingset_refault_anon 1\n"
                "workingset_refault_file 2\nthp_collapse_alloc 7\n"
            ),
            f"{cgroup}/box/memory.current": "4096\n",
            f"{cgroup}/box/memory.max": "8192\n",
            f"{cgroup}/box/memory.swap.max": "max\n",
            f"{cgroup}/box/memory.peak": "5000\n",
            f"{cgroup}/box/memory.events": "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n",
            f"{cgroup}/box/io.stat": ("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n7:1\n"),
            f"{cgroup}/box/hugetlb.2MB.current": "1\n",
            f"{cgroup}/box/hugetlb.2MB.max": "2\n",
            f"{cgroup}/box/hugetlb.2MB.events": "max 3\n",
        },
    )
    url, data = metrics(7, root)
    assert url == v2.Metrics.DESCRIPTOR.full_name
    found = v2.Metrics.FromString(data)
    assert (found.pids.current, found.pids.limit) == (3, 2**64 - 1)
    assert (found.cpu.usage_usec, found.cpu.throttled_usec, found.cpu.burst_usec) == (50, 9, 8)
    memory = found.memory
    assert (memory.anon, memory.file, memory.pgfault) == (10, 20, 5)
    assert (memory.workingset_refault, memory.thp_collapse_alloc) == (3, 7)
    assert (memory.usage, memory.usage_limit, memory.max_usage) == (4096, 8192, 5000)
    assert memory.swap_limit == 2**64 - 1
    assert (found.memory_events.high, found.memory_events.oom_kill) == (1, 4)
    first, second = found.io.usage
    assert (first.major, first.rbytes, first.wbytes, first.rios, first.wios) == (8, 1, 2, 3, 4)
    assert (second.major, second.minor, second.rbytes) == (7, 1, 0)
    (huge,) = found.hugetlb
    assert (huge.current, huge.max, huge.failcnt, huge.pagesize) == (1, 2, 3, "2MB")
