"""Container, Security Context, Multiple Containers, Volumes, and what kubelet reads of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest

from cored._pb.cri.v1 import api_pb2 as pb
from tests.kubelet import Kubelet, refused
from tests.patience import eventually

pytestmark = pytest.mark.root
Security = pb.LinuxContainerSecurityContext


def test_states_are_those_that_a_kubelet_waits_for(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.create(pod, "sh", "-c", "exit 3", labels={"a": "b"}, annotations={"c": "d"})
    status = kubelet.status(one)
    assert (status.state, status.started_at) == (pb.CONTAINER_CREATED, 0)
    assert (dict(status.labels), dict(status.annotations)) == ({"a": "b"}, {"c": "d"})
    kubelet.call("StartContainer", container_id=one)
    status = kubelet.ended(one)
    assert (status.exit_code, status.reason) == (3, "Error")
    assert 0 < status.created_at <= status.started_at <= status.finished_at
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        kubelet.call("StartContainer", container_id=one)
    kubelet.call("RemoveContainer", container_id=one)
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.status(one)
    done = kubelet.ended(kubelet.start(pod, "true"))
    assert (done.exit_code, done.reason) == (0, "Completed")


def test_a_command_that_is_not_there_is_a_start_error(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.create(pod, "/no/such/command")
    with pytest.raises(grpc.RpcError):
        kubelet.call("StartContainer", container_id=one)
    status = kubelet.status(one)
    assert (status.state, status.exit_code) == (pb.CONTAINER_EXITED, 128)
    assert status.reason == "StartError" and status.message


def test_what_cannot_be_made_leaves_its_name_free(kubelet: Kubelet, pod: str) -> None:
    meta = pb.ContainerMetadata(name="once")
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.create(pod, metadata=meta, image=pb.ImageSpec(image="docker.io/library/none:1"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.create(pod, metadata=meta, security=Security(run_as_username="nobody-knows"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        group = Security(run_as_group=pb.Int64Value(value=5))
        kubelet.create(pod, metadata=meta, security=group)
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.create("no-such-pod", metadata=meta)
    kubelet.create(pod, metadata=meta)
    with refused(grpc.StatusCode.ALREADY_EXISTS):
        kubelet.create(pod, metadata=meta)


def test_a_container_that_is_asked_to_stop_may_say_goodbye(kubelet: Kubelet, pod: str) -> None:
    script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.1; done"
    one = kubelet.start(pod, "sh", "-c", script)
    eventually(lambda: "up" in Path(kubelet.status(one).log_path).read_text())
    kubelet.call("StopContainer", container_id=one, timeout=50)
    assert kubelet.status(one).exit_code == 7
    assert kubelet.log(one) == "up\nbye"
    deaf = kubelet.start(pod, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    kubelet.call("StopContainer", container_id=deaf, timeout=1)
    assert kubelet.status(deaf).exit_code == 137
    chosen = kubelet.start(
        pod, "sh", "-c", "trap 'exit 9' USR1; echo up; while :; do sleep 0.1; done",
        stop_signal=pb.SIGNAL_SIGUSR1,
    )  # fmt: skip
    eventually(lambda: "up" in Path(kubelet.status(chosen).log_path).read_text())
    kubelet.call("StopContainer", container_id=chosen, timeout=50)
    assert kubelet.status(chosen).exit_code == 9
    assert kubelet.status(chosen).stop_signal == pb.SIGNAL_SIGUSR1


def test_one_that_takes_too_much_memory_is_oom_killed(kubelet: Kubelet, pod: str) -> None:
    limits = pb.LinuxContainerResources(memory_limit_in_bytes=12 << 20)
    one = kubelet.start(
        pod, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1", resources=limits
    )
    status = kubelet.ended(one)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_a_log_has_times_streams_and_long_lines_in_pieces(kubelet: Kubelet, pod: str) -> None:
    script = "echo out; echo err >&2; head -c 20000 /dev/zero | tr '\\0' x; echo"
    one = kubelet.start(pod, "sh", "-c", script)
    lines = Path(kubelet.ended(one).log_path).read_text().splitlines()
    fields = [line.split(" ", 3)[1:3] for line in lines]
    assert ["stderr", "F"] in fields and ["stdout", "P"] in fields
    text = "".join(line.split(" ", 3)[3] for line in lines if " stdout " in line)
    assert text == "out" + "x" * 20000


def test_a_log_that_was_put_away_begins_anew(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.start(pod, "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    path = Path(kubelet.status(one).log_path)
    eventually(lambda: path.exists() and path.stat().st_size)
    path.rename(f"{path}.1")
    kubelet.call("ReopenContainerLog", container_id=one)
    assert path.exists()
    eventually(lambda: "tick" in path.read_text())
    kubelet.call("StopContainer", container_id=one, timeout=0)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        kubelet.call("ReopenContainerLog", container_id=one)


def test_exec_sync_answers_output_and_code_and_ends_what_takes_too_long(
    kubelet: Kubelet, pod: str
) -> None:
    one = kubelet.start(pod)
    found = kubelet.exec(one, "sh", "-c", "echo a; echo b >&2; exit 5")
    assert (found.stdout, found.stderr, found.exit_code) == (b"a\n", b"b\n", 5)
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        kubelet.exec(one, "sleep", "55", timeout=1)
    assert b"sleep\x0055" not in kubelet.exec(one, "sh", "-c", "cat /proc/[0-9]*/cmdline").stdout
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.exec(one)
    kubelet.call("StopContainer", container_id=one, timeout=0)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        kubelet.exec(one, "true")
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.exec("none", "true")


def test_limits_are_changed_while_it_runs_and_before(kubelet: Kubelet, pod: str) -> None:
    resources = pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_shares=512)
    one = kubelet.create(pod, resources=resources)
    more = pb.LinuxContainerResources(memory_limit_in_bytes=48 << 20)
    kubelet.call("UpdateContainerResources", container_id=one, linux=more)
    kubelet.call("StartContainer", container_id=one)
    read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    assert int(kubelet.exec(one, "sh", "-c", read).stdout) == 48 << 20
    more = pb.LinuxContainerResources(memory_limit_in_bytes=32 << 20)
    kubelet.call("UpdateContainerResources", container_id=one, linux=more)
    assert int(kubelet.exec(one, "sh", "-c", read).stdout) == 32 << 20
    linux = kubelet.status(one).resources.linux
    assert (linux.memory_limit_in_bytes, linux.cpu_shares) == (32 << 20, 512)
    kubelet.call("StopContainer", container_id=one, timeout=0)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        kubelet.call("UpdateContainerResources", container_id=one, linux=more)


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        (Security(), "uid=0 gid=0"),
        (Security(run_as_user=pb.Int64Value(value=1234)), "uid=1234 gid=0"),
        (Security(run_as_username="nobody"), "uid=65534 gid=65534"),
        (
            Security(
                run_as_user=pb.Int64Value(value=1234),
                run_as_group=pb.Int64Value(value=77),
                supplemental_groups=[88, 99],
            ),
            "uid=1234 gid=77 groups=77,88,99",
        ),
    ],
    ids=["root", "by number", "by name", "with groups"],
)
def test_users_and_groups(kubelet: Kubelet, pod: str, security: Any, expected: str) -> None:
    import re

    text = kubelet.output(pod, "id", security=security)
    assert re.sub(r"\([^)]*\)", "", text).startswith(expected)


def _capabilities(kubelet: Kubelet, pod: str, security: Any) -> int:
    text = kubelet.output(pod, "grep", "CapBnd", "/proc/self/status", security=security)
    return int(text.split()[1], 16)


def test_capabilities_are_added_and_dropped(kubelet: Kubelet, pod: str) -> None:
    def with_(**fields: Any) -> int:
        return _capabilities(kubelet, pod, Security(capabilities=pb.Capability(**fields)))

    net_admin, usual = 1 << 12, with_()
    assert not usual & net_admin
    assert with_(add_capabilities=["NET_ADMIN"]) == usual | net_admin
    assert with_(drop_capabilities=["ALL"]) == 0
    assert with_(drop_capabilities=["ALL"], add_capabilities=["NET_ADMIN"]) == net_admin
    everything = _capabilities(kubelet, pod, Security(privileged=True))
    assert with_(add_capabilities=["ALL"]) == everything


def test_filters_and_privileges_are_as_asked_for(
    kubelet: Kubelet, pod: str, tmp_path: Path
) -> None:
    def mode(**fields: Any) -> list[str]:
        text = kubelet.output(
            pod, "grep", "-E", "Seccomp:|NoNewPrivs", "/proc/self/status",
            security=Security(**fields),
        )  # fmt: skip
        return [line.split()[1] for line in text.splitlines()]

    profile = pb.SecurityProfile
    assert mode() == ["0", "0"]
    assert mode(seccomp=profile(profile_type=profile.Unconfined)) == ["0", "0"]
    assert mode(seccomp=profile(profile_type=profile.RuntimeDefault)) == ["0", "2"]
    assert mode(no_new_privs=True) == ["1", "0"]
    own = tmp_path / "profile.json"
    own.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW",'
        ' "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    local = profile(profile_type=profile.Localhost, localhost_ref=str(own))
    assert kubelet.output(
        pod, "sh", "-c", "mkdir /x 2>/dev/null || echo refused", security=Security(seccomp=local)
    ) == "refused"  # fmt: skip
    gone = profile(profile_type=profile.Localhost, localhost_ref="/no/such/profile")
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.create(pod, security=Security(seccomp=gone))


def test_paths_are_masked_and_read_only(kubelet: Kubelet, pod: str) -> None:
    command = "cat /etc/group; touch /tmp/x 2>&1; touch /x 2>&1"
    security = Security(masked_paths=["/etc/group"], readonly_paths=["/tmp"])
    assert kubelet.output(pod, "sh", "-c", command, security=security) == (
        "touch: /tmp/x: Read-only file system"
    )
    text = kubelet.output(pod, "touch", "/x", security=Security(readonly_rootfs=True))
    assert "Read-only file system" in text


def test_volumes_are_mounted_as_they_are_asked_for(
    kubelet: Kubelet, pod: str, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    mounts = [
        pb.Mount(container_path="/data", host_path=str(tmp_path / "link")),
        pb.Mount(container_path="/fixed", host_path=str(tmp_path / "real"), readonly=True),
        pb.Mount(container_path="/made", host_path=str(tmp_path / "new")),
    ]
    command = "echo x >/data/file; cat /fixed/file; touch /fixed/no 2>&1; touch /made/yes"
    text = kubelet.output(pod, "sh", "-c", command, mounts=mounts)
    assert text == "x\ntouch: /fixed/no: Read-only file system"
    assert (tmp_path / "real/file").read_text() == "x\n"
    assert (tmp_path / "new/yes").exists()


@pytest.mark.parametrize(
    "mount",
    [
        pb.Mount(container_path="/x"),
        pb.Mount(host_path="/tmp"),
        pb.Mount(container_path="/x", host_path="/tmp", recursive_read_only=True),
        pb.Mount(
            container_path="/x", host_path="/tmp", readonly=True, recursive_read_only=True,
            propagation=pb.PROPAGATION_BIDIRECTIONAL,
        ),
        pb.Mount(container_path="/x", image=pb.ImageSpec(image="busybox")),
    ],
    ids=["no source", "no target", "not read-only", "propagated", "a writable image"],
)  # fmt: skip
def test_mounts_that_contradict_themselves_are_refused(
    kubelet: Kubelet, pod: str, mount: pb.Mount
) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.create(pod, mounts=[mount])


def test_an_image_is_a_volume_and_stays_as_it_is(kubelet: Kubelet, pod: str) -> None:
    image = pb.ImageSpec(image="docker.io/library/busybox:latest")
    mounts = [
        pb.Mount(container_path="/image", image=image, readonly=True),
        pb.Mount(container_path="/etc2", image=image, readonly=True, image_sub_path="etc"),
    ]
    command = "ls -d /image/bin/busybox; touch /image/x 2>&1; ls /etc2/passwd"
    one = kubelet.start(pod, "sh", "-c", command, mounts=mounts)
    assert kubelet.log(one) == (
        "/image/bin/busybox\ntouch: /image/x: Read-only file system\n/etc2/passwd"
    )
    assert kubelet.status(one).mounts[0].image.image_ref.startswith("sha256:")
    kubelet.call("RemoveContainer", container_id=one)
    left = kubelet.home / "state/grpc_service.cri/volumes"
    assert not list(left.glob("*"))
    wrong = pb.Mount(container_path="/x", image=image, readonly=True, image_sub_path="nowhere")
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.create(pod, mounts=[wrong])
    assert not list(left.glob("*"))


def test_mounts_travel_as_far_as_they_are_to(kubelet: Kubelet, pod: str, tmp_path: Path) -> None:
    place = kubelet.home / "shared"
    place.mkdir()
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "--make-rshared", place], check=True)
    try:
        found = {}
        for name, mode in (
            ("private", pb.PROPAGATION_PRIVATE), ("slave", pb.PROPAGATION_HOST_TO_CONTAINER),
            ("shared", pb.PROPAGATION_BIDIRECTIONAL),
        ):  # fmt: skip
            mount = pb.Mount(container_path="/m", host_path=str(place), propagation=mode)
            found[name] = kubelet.start(pod, mounts=[mount], security=Security(privileged=True))
        (place / "new").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "t", place / "new"], check=True)
        (place / "new/file").write_text("x")
        seen = {n: kubelet.exec(id, "ls", "/m/new/file").exit_code for n, id in found.items()}
        assert seen == {"private": 1, "slave": 0, "shared": 0}
        inside = "mkdir /m/back; mount -t tmpfs t /m/back; touch /m/back/file"
        kubelet.exec(found["shared"], "sh", "-c", inside)
        assert (place / "back/file").exists()
        for id in found.values():
            kubelet.call("RemoveContainer", container_id=id)
    finally:
        subprocess.run(["umount", "-R", place], check=True)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        mode = pb.PROPAGATION_BIDIRECTIONAL
        mount = pb.Mount(container_path="/m", host_path=str(tmp_path), propagation=mode)
        kubelet.create(pod, mounts=[mount])


def test_devices_and_environment_reach_the_container(kubelet: Kubelet, pod: str) -> None:
    device = pb.Device(host_path="/dev/null", container_path="/dev/mine", permissions="rwm")
    envs = [pb.KeyValue(key="MODE", value=b"test")]
    command = "echo $MODE $PWD; echo x >/dev/mine && echo wrote"
    text = kubelet.output(pod, "sh", "-c", command, devices=[device], envs=envs, working_dir="/tmp")
    assert text == "test /tmp\nwrote"


def test_a_device_by_the_device_interface(kubelet: Kubelet, pod: str) -> None:
    place = Path("/var/run/cdi")
    made = not place.exists()
    place.mkdir(exist_ok=True)
    specification = place / f"cored-test-{os.getpid()}.json"
    specification.write_text(
        '{"cdiVersion": "0.6.0", "kind": "cored.test/thing", "devices": [{"name": "one",'
        ' "containerEdits": {"env": ["THING=1"], "deviceNodes": [{"path": "/dev/thing",'
        ' "hostPath": "/dev/zero"}]}}]}'
    )
    try:
        devices = [pb.CDIDevice(name="cored.test/thing=one")]
        command = "echo $THING; head -c 3 /dev/thing | wc -c"
        assert kubelet.output(pod, "sh", "-c", command, CDI_devices=devices) == "1\n3"
        with refused(grpc.StatusCode.NOT_FOUND):
            kubelet.create(pod, CDI_devices=[pb.CDIDevice(name="cored.test/thing=two")])
    finally:
        specification.unlink()
        if made:
            place.rmdir()


def test_containers_are_listed_by_pod_state_and_label(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.start(pod, labels={"role": "a"})
    two = kubelet.create(pod, labels={"role": "b"})

    def ids(**fields: Any) -> set[str]:
        wanted = pb.ContainerFilter(pod_sandbox_id=pod, **fields)
        listed = [c.id for c in kubelet.call("ListContainers", filter=wanted).containers]
        pages = kubelet.call("StreamContainers", filter=wanted)
        assert [c.id for page in pages for c in page.containers] == listed
        return set(listed)

    assert ids() == {one, two}
    assert ids(label_selector={"role": "b"}) == {two}
    assert ids(id=one[:10]) == {one}
    assert ids(state=pb.ContainerStateValue(state=pb.CONTAINER_RUNNING)) == {one}


def test_a_checkpoint_needs_a_container_that_runs_and_a_place(kubelet: Kubelet, pod: str) -> None:
    one = kubelet.create(pod)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        kubelet.call("CheckpointContainer", container_id=one, location="/tmp/x.tar")
    kubelet.call("StartContainer", container_id=one)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        kubelet.call("CheckpointContainer", container_id=one)
    with refused(grpc.StatusCode.NOT_FOUND):
        kubelet.call("CheckpointContainer", container_id="none", location="/tmp/x.tar")
