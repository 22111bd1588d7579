"""The OCI spec of a container: docker's defaults, and what changes them."""

from __future__ import annotations

from typing import Any

import pytest

from cored.oci import seccomp
from cored.oci.mounts import Bind
from cored.oci.resources import Resources
from cored.oci.spec import SpecOptions, build, environment
from cored.oci.users import User


def spec(**more: Any) -> dict[str, Any]:
    return build(SpecOptions(args=["true"], env=["A=1"], **more))


def namespaces(document: dict[str, Any]) -> set[str]:
    return {entry["type"] for entry in document["linux"]["namespaces"]}


def test_least_rights_by_default() -> None:
    document = spec()
    assert len(document["process"]["capabilities"]["bounding"]) == 14
    assert "CAP_SYS_ADMIN" not in document["process"]["capabilities"]["bounding"]
    assert document["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "/proc/kcore" in document["linux"]["maskedPaths"]
    assert "/proc/sys" in document["linux"]["readonlyPaths"]
    assert namespaces(document) == {"pid", "ipc", "uts", "mount", "network"}
    first, *allowed = document["linux"]["resources"]["devices"]
    assert first == {"allow": False, "access": "rwm"}
    assert all(rule["allow"] for rule in allowed)
    cgroup = next(m for m in document["mounts"] if m["destination"] == "/sys/fs/cgroup")
    assert "ro" in cgroup["options"]


def test_a_user_other_than_root_has_nothing_effective() -> None:
    capabilities = spec(user=User(1000, 1000))["process"]["capabilities"]
    assert capabilities["effective"] == capabilities["permitted"] == []
    assert len(capabilities["bounding"]) == 14


def test_privileged_lifts_all_of_it() -> None:
    document = spec(privileged=True)
    assert "seccomp" not in document["linux"]
    assert "maskedPaths" not in document["linux"]
    assert document["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def test_limits() -> None:
    resources = spec(resources=Resources(64 << 20, 1_500_000_000, 7))["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    assert resources["cpu"] == {"period": 100_000, "quota": 150_000}
    assert resources["pids"] == {"limit": 7}


def test_the_hosts_network_is_no_namespace_of_ones_own() -> None:
    assert "network" not in namespaces(spec(host_network=True))


def test_binds_come_after_what_they_lie_in() -> None:
    binds = [Bind("/b", "/data/deep", read_only=True), Bind("/a", "/data")]
    mounts = [m for m in spec(binds=binds)["mounts"] if m["type"] == "bind"]
    assert [m["destination"] for m in mounts] == ["/data", "/data/deep"]
    assert "ro" in mounts[1]["options"]
    assert "rw" in mounts[0]["options"]


def test_the_users_environment_wins_over_the_images() -> None:
    found = environment(["PATH=/image", "A=1"], ["A=2", "B=3"], "host", True)
    assert found == ["PATH=/image", "HOSTNAME=host", "TERM=xterm", "A=2", "B=3"]


@pytest.mark.parametrize(
    ("capability", "call"),
    [("CAP_SYS_ADMIN", "mount"), ("CAP_SYS_TIME", "clock_settime"), ("CAP_BPF", "bpf")],
)
def test_a_capability_brings_its_calls_back(capability: str, call: str) -> None:
    def allowed(*capabilities: str) -> set[str]:
        return set(seccomp.profile(capabilities)["syscalls"][0]["names"])

    assert call not in allowed()
    assert call in allowed(capability)


def test_namespaces_cannot_be_made_without_sys_admin() -> None:
    rules = seccomp.profile([])["syscalls"]
    clone = next(rule for rule in rules if rule["names"] == ["clone"])
    assert clone["args"][0]["op"] == "SCMP_CMP_MASKED_EQ"
    clone3 = next(rule for rule in rules if rule["names"] == ["clone3"])
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert all("unshare" not in rule["names"] for rule in rules)
