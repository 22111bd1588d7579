"""What each option makes of a container's spec, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from cored_service_workloads.messages import config_message, config_value

from cored.engine import apparmor, host, userns
from cored.engine.revival import revived
from cored.engine.workload import Binding, ContainerConfig, DeviceRequest, Logging
from cored.errors import CoredError, FailedPrecondition, InvalidArgument, ResourceExhausted
from cored.oci import capabilities, devices, resources, seccomp, seccomp_file, sysctls, ulimits
from cored.oci.mounts import Bind, Tmpfs, document
from cored.oci.resources import Resources, Throttle
from cored.oci.security import Host, Namespaces, Security, SelinuxLabels
from cored.oci.spec import SpecOptions, build
from cored.oci.ulimits import Ulimit
from cored.oci.users import IdRange, groups, subordinate


def spec(**more: Any) -> dict[str, Any]:
    return build(SpecOptions(args=["true"], env=[], id="one", **more))


def allowed(profile: dict[str, Any]) -> set[str]:
    rules = [rule for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"]
    return {name for rule in rules if "args" not in rule for name in rule["names"]}


FULL = ContainerConfig(
    image="busybox",
    entrypoint=(),
    env=("A=1",),
    mounts=(Binding("/a", "/b", True, True),),
    labels={"x": "y"},
    resources=Resources(
        memory_limit=64 << 20,
        memory_swap=-1,
        memory_swappiness=0,
        throttles=(Throttle("read_bps", "/dev/sda", 5),),
        hugepage_limits={"2MB": 1 << 21},
        unified={"memory.high": "1"},
    ),
    logging=Logging("json-file", {"max-size": "1m"}),
    security=Security(True, "unconfined", "x", ("disable",), True),
    ulimits=(Ulimit("core", 0, -1),),
    sysctls={"net.ipv4.ip_forward": "1"},
    devices=(DeviceRequest("/dev/fuse", "/dev/x", "r"),),
    tmpfs=(Tmpfs("/run", "size=1m"),),
    oom_score_adj=-5,
    groups=("7",),
    namespaces=Namespaces(ipc="host", user="auto"),
)


def test_a_configuration_survives_the_wire_and_the_store() -> None:
    assert config_value(config_message(FULL)) == FULL
    assert revived(ContainerConfig, json.loads(json.dumps(asdict(FULL)))) == FULL
    bare = ContainerConfig("busybox")
    assert config_value(config_message(bare)) == bare
    assert bare.entrypoint is None
    assert bare.resources.memory_swappiness is None


def test_every_field_of_the_message_has_its_value() -> None:
    described = config_message(FULL).DESCRIPTOR.fields_by_name
    assert set(described) == {field.name for field in fields(ContainerConfig)}


def test_a_store_of_another_version_is_read() -> None:
    assert revived(ContainerConfig, {"image": "x", "memory": 5}) == ContainerConfig("x")


def test_all_limits_have_their_place() -> None:
    wanted = Resources(
        memory_limit=64 << 20,
        memory_reservation=32 << 20,
        memory_swap=-1,
        memory_swappiness=10,
        oom_kill_disable=True,
        cpu_shares=5,
        cpu_quota=2000,
        cpu_period=10_000,
        cpuset_cpus="0-1,3",
        cpuset_mems="0",
        pids_limit=9,
        blkio_weight=100,
        throttles=(Throttle("write_iops", "/dev/x", 7),),
        hugepage_limits={"2MB": 1 << 21},
        unified={"memory.high": "1"},
    )
    assert resources.document(wanted, [(wanted.throttles[0], 8, 1)]) == {
        "memory": {
            "limit": 64 << 20, "reservation": 32 << 20, "swap": -1, "swappiness": 10,
            "disableOOMKiller": True,
        },
        "cpu": {"shares": 5, "quota": 2000, "period": 10_000, "cpus": "0-1,3", "mems": "0"},
        "pids": {"limit": 9},
        "blockIO": {
            "weight": 100,
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 7}],
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1 << 21}],
        "unified": {"memory.high": "1"},
    }  # fmt: skip
    assert resources.document(Resources()) == {}
    assert "swap" not in resources.document(Resources(64 << 20), swap=False)["memory"]


@pytest.mark.parametrize(
    "wanted",
    [
        Resources(memory_limit=1 << 20),
        Resources(memory_limit=64 << 20, memory_swap=32 << 20),
        Resources(memory_swap=32 << 20),
        Resources(memory_limit=64 << 20, memory_reservation=65 << 20),
        Resources(memory_swappiness=101),
        Resources(oom_kill_disable=True),
        Resources(nano_cpus=1, cpu_quota=5000),
        Resources(cpu_quota=5),
        Resources(cpu_period=5),
        Resources(cpuset_cpus="0-"),
        Resources(cpuset_mems="x"),
        Resources(blkio_weight=5),
    ],
)
def test_limits_that_contradict_themselves_are_refused(wanted: Resources) -> None:
    with pytest.raises(InvalidArgument):
        resources.document(wanted)


def test_the_filter_fits_architecture_and_kernel() -> None:
    assert {"arch_prctl", "modify_ldt", "ptrace"} <= allowed(seccomp.profile([], "amd64"))
    arm = seccomp.profile([], "arm64")
    assert arm["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert "set_tls" in allowed(arm)
    assert "arch_prctl" not in allowed(arm)
    assert "riscv_flush_icache" in allowed(seccomp.profile([], "riscv64"))
    old = allowed(seccomp.profile([], "amd64", (4, 7)))
    assert not old & {"ptrace", "process_vm_readv", "process_vm_writev"}
    assert "ptrace" in allowed(seccomp.profile(["CAP_SYS_PTRACE"], "amd64", (4, 7)))
    clone = [r for r in seccomp.profile([], "s390x")["syscalls"] if r["names"] == ["clone"]]
    assert [rule["args"][0]["index"] for rule in clone] == [1]
    assert "architectures" not in seccomp.profile([], "unheard-of")


def test_the_filter_knows_x32_only_where_the_kernel_may() -> None:
    native = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert spec()["linux"]["seccomp"]["architectures"] == native
    third = spec(host=Host(x32=True))["linux"]["seccomp"]
    assert third["architectures"] == [*native, "SCMP_ARCH_X32"]
    assert "SCMP_ARCH_X32" not in seccomp.profile([], "arm64", x32=True)["architectures"]


def test_sockets_of_kernel_ciphers_and_hypervisors_are_left_out() -> None:
    def passes(family: int) -> bool:
        tests = {"SCMP_CMP_LT": int.__lt__, "SCMP_CMP_EQ": int.__eq__, "SCMP_CMP_GT": int.__gt__}
        rules = [r["args"][0] for r in seccomp.profile([])["syscalls"] if r["names"] == ["socket"]]
        return any(tests[rule["op"]](family, rule["value"]) for rule in rules)

    assert [family for family in range(46) if not passes(family)] == [38, 40]


def test_docker_s_profiles_are_settled_for_a_container() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": None},
        ],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "x", "includes": {}},
            {"name": "old", "action": "SCMP_ACT_ALLOW"},
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_BPF"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["arm64"]}},
            {"names": ["e"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.5"}},
        ],
    }
    text = json.dumps(profile)
    amd = seccomp_file.adapted(text, ["CAP_BPF"], "amd64", (6, 4))
    assert allowed(amd) == {"read", "old", "a", "d"}
    assert amd["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert amd["syscalls"][0] == {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    arm = seccomp_file.adapted(text, [], "arm64", (6, 5))
    assert allowed(arm) == {"read", "old", "b", "c", "e"}
    assert arm["architectures"] == ["SCMP_ARCH_AARCH64"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"defaultAction": "x", "syscalls": 5}'])
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="seccomp profile"):
        seccomp_file.adapted(text, [], "amd64", (6, 0))


def test_sysctls_may_be_written_with_slashes() -> None:
    inside = ("network", "ipc", "uts")
    found = sysctls.check({"net/ipv4/conf/eth0.1/forwarding": "1", "kernel.sem": "1"}, inside)
    assert found == {"net.ipv4.conf.eth0/1.forwarding": "1", "kernel.sem": "1"}
    for name in (
        "kernel.hostname",
        "vm.overcommit_memory",
        "fs.file-max",
        "user.max_user_namespaces",
    ):
        with pytest.raises(InvalidArgument, match="whole host's"):
            sysctls.check({name: "1"}, inside)


def test_a_limit_above_the_daemon_s_own_is_refused_where_it_cannot_be_raised() -> None:
    assert ulimits.rlimits([], 5, {}) == [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 5}]
    found = ulimits.rlimits([Ulimit("memlock", -1, -1)], 5, {"nofile": 5})
    assert found[1] == {"type": "RLIMIT_MEMLOCK", "soft": 2**64 - 1, "hard": 2**64 - 1}
    with pytest.raises(InvalidArgument, match="above the daemon's own hard limit of 5"):
        ulimits.rlimits([Ulimit("nofile", 1, 6)], 5, {"nofile": 5})
    with pytest.raises(InvalidArgument, match="below -1"):
        ulimits.rlimits([Ulimit("nofile", -2, 6)], 5, {})


def test_device_rules_are_cgroup_v1_s_words() -> None:
    one = devices.Device("/dev/x", "b", 8, 1, permissions="r")
    rules = devices.rules([one], ["c 10:* rw", "a *:* m"])
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert rules[-3:] == [
        {"allow": True, "type": "b", "major": 8, "minor": 1, "access": "r"},
        {"allow": True, "type": "c", "major": 10, "access": "rw"},
        {"allow": True, "type": "a", "access": "m"},
    ]
    for text in ("x 1:1 r", "c 1 r", "c 1:1 rx", "c 1:1 rr"):
        with pytest.raises(InvalidArgument):
            devices.rules([], [text])


def test_a_mount_of_one_s_own_replaces_a_usual_one() -> None:
    found = document([], [Tmpfs("/dev/shm", "size=1m,exec")])
    (shm,) = [mount for mount in found if mount["destination"] == "/dev/shm"]
    assert shm["options"] == ["nosuid", "nodev", "size=1m", "exec"]
    assert next(m["destination"] for m in found if m["destination"].startswith("/dev")) == "/dev"


@pytest.mark.parametrize(
    "more",
    [
        {"tmpfs": [Tmpfs("relative")]},
        {"tmpfs": [Tmpfs("/")]},
        {"tmpfs": [Tmpfs("/x", "bind")]},
        {"oom_score_adj": 1001},
        {"namespaces": Namespaces(ipc="nonsense")},
        {"security": Security(labels=("nonsense",))},
        {"security": Security(labels=("type:",))},
        {"ids": IdRange(1, 2), "privileged": True},
        {"ids": IdRange(1, 2), "host_network": True},
        {"cap_add": ["BPF"], "host": Host(capabilities=frozenset({"CAP_CHOWN"}))},
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(CoredError):
        spec(**more)


def test_nobody_is_given_what_the_daemon_does_not_have() -> None:
    here = Host(capabilities=frozenset({"CAP_CHOWN", "CAP_BPF"}))
    given = spec(host=here)["process"]["capabilities"]
    assert given["bounding"] == ["CAP_CHOWN"]
    assert spec(host=here, privileged=True)["process"]["capabilities"]["bounding"] == [
        "CAP_CHOWN", "CAP_BPF",
    ]  # fmt: skip
    assert capabilities.chosen(["ALL"], [], here.capabilities) == ["CAP_CHOWN", "CAP_BPF"]


def test_an_oom_score_is_not_below_the_floor() -> None:
    here = Host(oom_floor=-3)
    assert spec(host=here, oom_score_adj=-900)["process"]["oomScoreAdj"] == -3
    assert spec(host=here, oom_score_adj=900)["process"]["oomScoreAdj"] == 900
    assert "oomScoreAdj" not in spec(host=here)["process"]


def test_host_namespaces_are_left_away_with_what_belongs_to_them() -> None:
    found = spec(
        namespaces=Namespaces("host", "host", "host", "host"),
        host_network=True,
        hostname="x",
        host=Host(cgroup_v2=True),
    )
    assert found["linux"]["namespaces"] == [{"type": "mount"}]
    assert "hostname" not in found
    assert found["linux"]["sysctl"] == {}
    shm = next(m for m in found["mounts"] if m["destination"] == "/dev/shm")
    assert (shm["type"], shm["source"]) == ("bind", "/dev/shm")


def test_a_user_namespace_maps_users_and_groups() -> None:
    linux = spec(ids=IdRange(1000, 5))["linux"]
    assert linux["uidMappings"] == linux["gidMappings"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 5}]
    assert {"type": "user"} in linux["namespaces"]
    assert "net.ipv4.ping_group_range" not in linux["sysctl"]
    binds = [Bind("/a", "/b")]
    (bind,) = [m for m in spec(ids=IdRange(1000, 5), binds=binds)["mounts"] if m["source"] == "/a"]
    assert bind["uidMappings"] == bind["gidMappings"] == linux["uidMappings"]
    assert all("uidMappings" not in mount for mount in spec(binds=binds)["mounts"])


def selinux(*wanted: str, **more: Any) -> tuple[str, str]:
    labels = SelinuxLabels("u:r:container_t:s0", "u:object_r:container_file_t:s0")
    found = spec(host=Host(selinux=labels), security=Security(labels=wanted), **more)
    return found["process"].get("selinuxLabel", ""), found["linux"].get("mountLabel", "")


def test_selinux_labels_keep_containers_apart() -> None:
    process, file = selinux()
    assert process.startswith("u:r:container_t:s0:c")
    assert file == process.replace(":r:container_t", ":object_r:container_file_t")
    first, second = (int(c[1:]) for c in process.rpartition(":")[2].split(","))
    assert 0 <= first < second < 1024
    assert selinux("type:spc_t", "level:s0:c1,c2")[0] == "u:r:spc_t:s0:c1,c2"
    assert selinux("disable") == selinux(privileged=True) == ("", "")
    assert "selinuxLabel" not in spec(security=Security(labels=("type:x",)))["process"]


def test_apparmor_profiles() -> None:
    here = Host(apparmor=frozenset({"mine", "cored-default"}), default_profile="cored-default")

    def chosen(wanted: str = "", **more: Any) -> str:
        found = spec(security=Security(apparmor=wanted), **{"host": here, **more})
        return str(found["process"].get("apparmorProfile", ""))

    assert chosen() == "cored-default"
    assert chosen("mine") == "mine"
    assert chosen("unconfined") == chosen(privileged=True) == "unconfined"
    assert chosen(host=Host()) == chosen("unconfined", host=Host()) == ""
    with pytest.raises(FailedPrecondition, match="is not loaded"):
        chosen("other")
    with pytest.raises(FailedPrecondition, match="has no AppArmor"):
        chosen("mine", host=Host())


def faked(root: Path, files: dict[str, str]) -> Host:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return host.probe(root)


def test_a_host_with_everything_is_seen(tmp_path: Path) -> None:
    found = faked(
        tmp_path,
        {
            "proc/self/status": "CapBnd:\t0000000001000001\nSeccomp:\t2\n",
            "proc/self/oom_score_adj": "-500\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu hugetlb memory\n",
            "sys/fs/cgroup/cpuset.cpus.effective": "0-2,5\n",
            "sys/fs/cgroup/cpuset.mems.effective": "0\n",
            "sys/module/apparmor/parameters/enabled": "Y\n",
            "sys/kernel/security/apparmor/profiles": "cored-default (enforce)\na b (complain)\n",
            "sys/fs/selinux/enforce": "1",
            "etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=mine\n",
            "etc/selinux/mine/contexts/lxc_contexts": 'process = "a:b:c:s0"\nfile = "d:e:f:s0"\n',
            "sys/kernel/mm/hugepages/hugepages-2048kB/x": "",
            "sys/kernel/mm/hugepages/hugepages-1048576kB/x": "",
        },
    )
    assert found.capabilities == {"CAP_CHOWN", "CAP_SYS_RESOURCE"}
    assert found.cgroup_v2
    assert found.swap
    assert found.x32  # what it has cannot be asked: the filter on us might kill
    assert found.apparmor == {"cored-default", "a b"}
    assert found.default_profile == "cored-default"
    assert found.selinux == SelinuxLabels("a:b:c:s0", "d:e:f:s0")
    assert found.hugepages == {"2MB", "1GB"}
    assert (found.oom_floor, found.ceilings) == (-1000, ())
    assert (found.cpus, found.memory_nodes) == ((0, 1, 2, 5), (0,))


def test_a_bare_host_is_seen(tmp_path: Path) -> None:
    found = faked(
        tmp_path,
        {
            "proc/self/status": "CapBnd:\t0000000000000001\n",
            "proc/self/oom_score_adj": "-500\n",
            "sys/module/apparmor/parameters/enabled": "N\n",
        },
    )
    assert (found.cgroup_v2, found.swap, found.blkio_weight) == (False, False, False)
    assert (found.apparmor, found.default_profile, found.selinux) == (None, "", None)
    assert found.oom_floor == -500
    assert found.cpus
    assert found.memory_nodes == ()
    first = faked(tmp_path, {"sys/fs/cgroup/cpuset/cpuset.cpus": "1\n"})
    assert first.cpus == (1,)
    assert all(found.files <= hard for name, hard in found.ceilings if name == "nofile")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Resources(nano_cpus=3_000_000_001), "CPU limit 3: there are only 3 CPUs here"),
        (Resources(cpuset_cpus="0,3"), r"CPUs '0,3': not all are here \(there is 0,1,5\)"),
        (Resources(cpuset_cpus="0-99999999999"), "not all are here"),
        (Resources(cpuset_mems="1"), r"memory nodes '1': not all are here \(there is 0\)"),
    ],
)
def test_what_a_host_does_not_have_is_refused(wanted: Resources, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        resources.fit(wanted, (0, 1, 5), (0,))
    resources.fit(wanted, (), ())


def test_limits_that_are_within_what_a_host_has_fit_it() -> None:
    wanted = Resources(nano_cpus=3_000_000_000, cpuset_cpus="0-1,5", cpuset_mems="0")
    resources.fit(wanted, (0, 1, 5), (0,))
    assert "pids" not in resources.document(Resources(pids_limit=-1))
    with pytest.raises(InvalidArgument, match="reservation 1024: at least 6 MiB"):
        resources.document(Resources(memory_reservation=1024))


def test_a_profile_that_cannot_be_loaded_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor.shutil, "which", lambda *_, **__: None)
    assert apparmor.default(frozenset({"other"})) == ""
    monkeypatch.setattr(apparmor.shutil, "which", lambda *_, **__: "/bin/false")
    assert apparmor.default(frozenset({"other"})) == ""
    monkeypatch.setattr(apparmor.shutil, "which", lambda *_, **__: "/bin/true")
    assert apparmor.default(frozenset({"other"})) == apparmor.DEFAULT


def test_subordinate_ids_are_given_out_in_blocks(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    text = "x:1:2\ncored:100000:140000\nbad line\nalice:5:10\n"
    (tmp_path / "etc/subuid").write_text(text)
    (tmp_path / "etc/subgid").write_text(text.replace("x:1:2", "x:7:2"))
    first = userns.chosen("auto", [], tmp_path)
    assert first == IdRange(100000, 65536)
    second = userns.chosen("auto", [first], tmp_path)
    assert second == IdRange(165536, 65536)
    with pytest.raises(ResourceExhausted, match="in use"):
        userns.chosen("auto", [first, IdRange(200000, 5)], tmp_path)
    assert userns.chosen("alice", [], tmp_path) == IdRange(5, 10)
    for name in ("x", "nobody-at-all"):
        with pytest.raises(FailedPrecondition, match="/etc/subuid"):
            userns.chosen(name, [], tmp_path)
    assert subordinate("bob", 1000, "1000:5:6") == [IdRange(5, 6)]


def test_groups_are_numbers_or_names() -> None:
    assert groups(["5", "7"], lambda path: pytest.fail(path)) == (5, 7)
    assert groups(["audio", "5"], lambda path: "audio:x:29:\n") == (29, 5)
    with pytest.raises(InvalidArgument, match="'audio'"):
        groups(["audio"], lambda path: "")
