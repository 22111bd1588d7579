"""What containers can see and do, looked at from inside: the defaults, and every option."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.client.channel import Channel
from cored.client.workloads import Workloads
from cored.errors import InvalidArgument
from cored.oci import capabilities
from tests import daemons
from tests.daemons import Daemon

pytestmark = pytest.mark.root
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
# where a container's own cgroup is to be seen
GROUP = "" if V2 else "memory"
EPERM, EINVAL, ENOSYS = 1, 22, 38
# the host's Python, for system calls that busybox does not make
PYTHON = str(Path(sys.base_prefix) / "bin/python3")
ITS_FILES = sorted(
    {"/usr", "/lib", "/lib64", sys.base_prefix}
    & {p for p in ("/usr", "/lib", "/lib64", sys.base_prefix) if Path(p).exists()}
)
CALLS = """
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(work):
    ctypes.set_errno(0)
    try:
        return ctypes.get_errno() if work() == -1 else 0
    except OSError as error:
        return error.errno
number = libc.syscall
found = {
    "mount": call(lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "clone3": call(lambda: number(435, 0, 0)),
    "io_uring_setup": call(lambda: number(425, 0, 0)),
    "linux personality": call(lambda: libc.personality(0)),
    "executable personality": call(lambda: libc.personality(0x400000)),
    "vsock": call(lambda: socket.socket(40, socket.SOCK_STREAM).close()),
    "alg": call(lambda: socket.socket(38, socket.SOCK_SEQPACKET).close()),
    "netlink": call(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
    "ptrace": call(lambda: libc.ptrace(0, 0, 0, 0)),
    "chroot": call(lambda: os.chroot("/")),
    "sethostname": call(lambda: libc.sethostname(b"x", 1)),
    "unshare": call(lambda: libc.unshare(0x10000000)),
}
print(json.dumps(found))
"""


def inside(daemon: Daemon, *options: str, script: str = "", command: Sequence[str] = ()) -> str:
    """What a shell in a container says."""
    words = command or ["sh", "-c", script]
    done = daemon.corectl("run", "--rm", *options, "busybox", *words, check=True)
    return done.stdout.decode()


def refused(daemon: Daemon, *options: str) -> str:
    """The one line of an option that is not taken; nothing stays."""
    done = daemon.corectl("run", "--rm", *options, "busybox", "true")
    assert done.returncode == 125, (options, done)
    assert not daemon.corectl("ps", "-aq").stdout
    error = done.stderr.decode().strip()
    assert "\n" not in error
    return error


def answers(text: str) -> dict[str, str]:
    """Lines of ``name: text``."""
    return {name: rest.strip() for name, _, rest in (s.partition(":") for s in text.splitlines())}


def calls(daemon: Daemon, *options: str) -> dict[str, int]:
    """The error of each system call, 0 for none."""
    mounts = [word for path in ITS_FILES for word in ("-v", f"{path}:{path}:ro")]
    text = inside(daemon, *mounts, *options, command=[PYTHON, "-I", "-S", "-c", CALLS])
    return dict(json.loads(text))


def names(mask: str) -> set[str]:
    """The capabilities of a line in /proc/PID/status."""
    bits = int(mask, 16)
    return {name for number, name in enumerate(capabilities.ALL) if bits >> number & 1}


def group_file(v1: str, v2: str) -> str:
    return f"cat /sys/fs/cgroup/{v2 if V2 else v1} 2>&1"


def test_a_container_has_the_customary_rights_and_no_more(daemon: Daemon) -> None:
    script = """
        cat /proc/self/status
        echo kcore: $(head -c 1 /proc/kcore | wc -c)
        echo firmware: $(ls /sys/firmware | wc -l)
        echo keys: $(wc -c < /proc/keys)
        echo setting: $(echo x 2>&1 > /proc/sys/kernel/hostname)
        echo made: $(mkdir /sys/x 2>&1)
        for path in bus fs irq sys sysrq-trigger; do
            [ -e /proc/$path ] && echo $path: $(grep " /proc/$path " /proc/mounts)
        done
        echo dev: $(ls /dev)
        mknod /tmp/disk b 8 0; echo disk: $(head -c 1 /tmp/disk 2>&1)
        mknod /tmp/null c 1 3; echo null: $(echo x 2>&1 > /tmp/null)
        echo pid: $$
        echo hostname: $(hostname)
        echo links: $(ls /sys/class/net)
        echo files: $(ulimit -n) $(ulimit -Hn)
        echo ports: $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)
        echo shm: $(df -k /dev/shm | tail -1)
        echo group: $(mkdir /sys/fs/cgroup/$1/x 2>&1)
        echo root: $(touch /new && echo written)
    """
    command = ["sh", "-c", script, "sh", GROUP]
    found = answers(inside(daemon, "-h", "inside", command=command))
    assert names(found["CapBnd"]) == names(found["CapEff"]) == set(capabilities.DEFAULT)
    assert names(found["CapInh"]) == names(found["CapAmb"]) == set()
    assert found["NoNewPrivs"] == "0"
    assert found["Seccomp"] == "2"
    assert (found["kcore"], found["firmware"], found["keys"]) == ("0", "0", "0")
    assert "ead-only file system" in found["setting"]
    assert "ead-only file system" in found["made"]
    there = [name for name in ("bus", "fs", "irq", "sys", "sysrq-trigger") if name in found]
    assert "sys" in there
    assert all(found[name].split()[3].startswith("ro,") for name in there)
    assert set(found["dev"].split()) == {
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    }  # fmt: skip
    assert "not permitted" in found["disk"]
    assert found["null"] == ""
    assert found["pid"] == "1"
    assert (found["hostname"], found["links"], found["ports"]) == ("inside", "eth0 lo", "0")
    assert int(found["files"].split()[0]) == 1024
    assert found["shm"].split()[1] == "65536"
    assert "ead-only file system" in found["group"]
    assert found["root"] == "written"


def test_the_default_filter_lets_programs_work_and_keeps_the_kernel_out_of_reach(
    daemon: Daemon,
) -> None:
    found = calls(daemon)
    assert found == {
        "unshare": EPERM,
        "mount": EPERM,
        "clone3": ENOSYS,
        "io_uring_setup": EPERM,
        "linux personality": 0,
        "executable personality": EPERM,
        "vsock": EPERM,
        "alg": EPERM,
        "netlink": 0,
        "ptrace": 0,
        "chroot": 0,
        "sethostname": EPERM,
    }


def test_a_filter_can_be_left_away_replaced_or_widened_by_a_capability(
    daemon: Daemon, tmp_path: Path
) -> None:
    bare = calls(daemon, "--security-opt", "seccomp=unconfined")
    assert bare["clone3"] == EINVAL
    assert bare["executable personality"] == bare["unshare"] == 0
    profile = tmp_path / "profile.json"
    rules = [
        {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_BPF"]}},
    ]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    own = calls(daemon, "--security-opt", f"seccomp={profile}")
    assert (own["chroot"], own["executable personality"]) == (99, 0)
    wide = calls(daemon, "--cap-add", "SYS_ADMIN")
    assert wide["clone3"] == EINVAL
    assert wide["mount"] == wide["sethostname"] == wide["unshare"] == 0
    none = calls(daemon, "--cap-drop", "ALL")
    assert none["chroot"] == EPERM


def test_rights_are_given_and_taken(daemon: Daemon) -> None:
    script = "cat /proc/self/status; echo kcore: $(head -c 1 /proc/kcore | wc -c); echo user: $(id)"
    options = ("--cap-drop", "ALL", "--cap-add", "net_admin", "--cap-add", "CAP_CHOWN")
    found = answers(inside(daemon, *options, "--security-opt", "no-new-privileges", script=script))
    assert names(found["CapEff"]) == {"CAP_NET_ADMIN", "CAP_CHOWN"}
    assert found["NoNewPrivs"] == "1"
    user = answers(
        inside(daemon, "-u", "nobody", "--group-add", "7", "--group-add", "root", script=script)
    )
    assert names(user["CapEff"]) == set()
    assert names(user["CapBnd"]) == set(capabilities.DEFAULT)
    assert set(user["Groups"].split()) >= {"0", "7"}
    bare = answers(inside(daemon, "--security-opt", "systempaths=unconfined", script=script))
    assert "CAP_SYS_ADMIN" not in names(bare["CapEff"])


def test_a_privileged_container_has_what_the_daemon_has(daemon: Daemon) -> None:
    script = """
        cat /proc/self/status
        echo write: $(echo 0 2>&1 > /proc/sys/net/ipv4/ip_forward)
        echo group: $(mkdir /sys/fs/cgroup/$1/x 2>&1; rmdir /sys/fs/cgroup/$1/x)
        echo dev: $(ls /dev)
        mount -t tmpfs none /tmp && echo mounted: yes
    """
    command = ["sh", "-c", script, "sh", GROUP]
    found = answers(inside(daemon, "--privileged", command=command))
    ours = re.search(r"CapBnd:\s*(\S+)", Path("/proc/self/status").read_text())
    assert ours is not None
    assert names(found["CapEff"]) == names(ours[1])
    assert found["Seccomp"] == "0"
    assert (found["write"], found["group"], found["mounted"]) == ("", "", "yes")
    disks = {path.name for path in Path("/dev").iterdir() if path.is_block_device()}
    assert disks <= set(found["dev"].split())


def test_limits_are_the_container_s_own(daemon: Daemon) -> None:
    files = {
        "memory": group_file("memory/memory.limit_in_bytes", "memory.max"),
        "reservation": group_file("memory/memory.soft_limit_in_bytes", "memory.low"),
        "cpu": group_file("cpu/cpu.cfs_quota_us", "cpu.max"),
        "shares": group_file("cpu/cpu.shares", "cpu.weight"),
        "cpus": group_file("cpuset/cpuset.cpus", "cpuset.cpus"),
        "pids": group_file("pids/pids.max", "pids.max"),
        "score": "cat /proc/self/oom_score_adj",
        "files": "echo $(ulimit -n) $(ulimit -Hn)",
        "core": "ulimit -c",
        "swap": group_file("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    }
    script = "\n".join(f"echo {name}: $({command})" for name, command in files.items())
    options = (
        "-m 64m --memory-reservation 32m --memory-swap 96m --cpus 0.5 -c 512 --cpuset-cpus 0"
        " --pids-limit 50 --oom-score-adj 500 --ulimit nofile=200:300 --ulimit core=0"
    )
    found = answers(inside(daemon, *options.split(), script=script))
    assert found["memory"] == str(64 << 20)
    assert found["reservation"] == str(32 << 20)
    assert found["cpu"] == ("50000 100000" if V2 else "50000")
    assert found["shares"] == ("20" if V2 else "512")
    assert (found["cpus"], found["pids"], found["score"]) == ("0", "50", "500")
    assert (found["files"], found["core"]) == ("200 300", "0")
    if "No such file" not in found["swap"]:
        assert found["swap"] == str((32 if V2 else 96) << 20)


def test_disks_and_huge_pages_are_limited(daemon: Daemon) -> None:
    wanted, script = pb.Resources(), ""
    disk = next((path for path in Path("/dev").iterdir() if path.is_block_device()), None)
    if disk is not None:
        number = f"{os.major(disk.stat().st_rdev)}:{os.minor(disk.stat().st_rdev)}"
        wanted.throttles.add(kind="read_bps", path=str(disk), rate=1 << 20)
        script += group_file("blkio/blkio.throttle.read_bps_device", "io.max") + "\n"
    huge = Path("/sys/fs/cgroup/hugetlb/cgroup.procs").exists() or (
        V2 and "hugetlb" in Path("/sys/fs/cgroup/cgroup.controllers").read_text()
    )
    huge = huge and Path("/sys/kernel/mm/hugepages/hugepages-2048kB").exists()
    if huge:
        wanted.hugepage_limits["2MB"] = 4 << 20
        script += group_file("hugetlb/hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")
    config = pb.ContainerConfig(image="busybox", args=["sh", "-c", script], resources=wanted)
    with closing(Channel(str(daemon.address), namespace="default")) as channel:
        workloads = Workloads(channel)
        id = workloads.create(config).id
        workloads.start(id)
        assert workloads.wait(id).result().exit_status == 0
        said = daemon.corectl("logs", id, check=True).stdout.decode()
        workloads.remove(id)
        config.resources.hugepage_limits["3MB"] = 1
        with pytest.raises(InvalidArgument, match="huge pages '3MB'"):
            workloads.create(config)
    if disk is not None:
        assert number in said
        assert str(1 << 20) in said
    if huge:
        assert str(4 << 20) in said


def test_limits_are_enforced(daemon: Daemon) -> None:
    eater = daemon.corectl("run", "--rm", "-m", "16m", "busybox", "tail", "/dev/zero")
    assert eater.returncode == 137
    forks = "for n in 1 2 3 4 5 6 7 8 9; do sleep 1 & done 2>&1; wait"
    done = daemon.corectl("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", forks)
    assert b"fork" in done.stdout + done.stderr


def test_filesystems_are_as_asked(daemon: Daemon) -> None:
    script = """
        echo root: $(touch /new 2>&1)
        echo scratch: $(touch /scratch/x && grep ' /scratch ' /proc/mounts)
        echo run: $(grep ' /run ' /proc/mounts)
        echo shm: $(df -k /dev/shm | tail -1)
        echo full: $(dd if=/dev/zero of=/scratch/y bs=1k count=5000 2>&1)
    """
    options = "--read-only --tmpfs /scratch:size=4m,mode=700 --tmpfs /run:exec --shm-size 8m"
    found = answers(inside(daemon, *options.split(), script=script))
    assert "ead-only file system" in found["root"]
    assert set(found["scratch"].split()[3].split(",")) >= {
        "rw", "nosuid", "nodev", "noexec", "size=4096k", "mode=700",
    }  # fmt: skip
    assert "noexec" not in found["run"]
    assert found["shm"].split()[1] == "8192"
    assert "o space left" in found["full"]


def test_kernel_settings_of_its_own_namespaces_only(daemon: Daemon) -> None:
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max"
    options = (
        "--sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=4242 --sysctl fs/mqueue/msg_max=7"
    )
    assert inside(daemon, *options.split(), script=script).split() == ["1", "4242", "7"]
    assert "the whole host's" in refused(daemon, "--sysctl", "kernel.panic=1")
    assert "the whole host's" in refused(daemon, "--sysctl", "vm.swappiness=1")
    host = refused(daemon, "--network", "host", "--sysctl", "net.ipv4.ip_forward=1")
    assert "network namespace" in host
    assert "ipc namespace" in refused(daemon, "--ipc", "host", "--sysctl", "kernel.msgmax=1")


def test_devices_with_their_permissions(daemon: Daemon) -> None:
    # one that opens and does nothing
    host = next(
        p for p in ("/dev/fuse", "/dev/loop-control", "/dev/cpu_dma_latency") if Path(p).exists()
    )
    number = Path(host).stat().st_rdev
    script = f"""
        echo zero: $(head -c 3 /dev/zeros/zero | wc -c)
        mknod /tmp/made c {os.major(number)} {os.minor(number)}
        for path in /dev/mine /tmp/made; do
            echo $path read: $( (: < $path) 2>&1)
            echo $path write: $( (: > $path) 2>&1)
        done
    """
    read = ("--device", f"{host}:/dev/mine:r", "--device", "/dev/zero:/dev/zeros/zero")
    found = answers(inside(daemon, *read, script=script))
    assert found["zero"] == "3"
    for path in ("/dev/mine", "/tmp/made"):
        assert found[f"{path} read"] == ""
        assert "not permitted" in found[f"{path} write"]
    rule = ("--device-cgroup-rule", f"c {os.major(number)}:* rw")
    assert answers(inside(daemon, *rule, script=script))["/tmp/made write"] == ""
    assert "not permitted" in answers(inside(daemon, script=script))["/tmp/made read"]


def test_namespaces_can_be_the_host_s(daemon: Daemon) -> None:
    script = "for kind in ipc pid uts cgroup net; do readlink /proc/self/ns/$kind; done"
    shared = "--ipc host --pid host --uts host --cgroupns host --network host"
    kinds = ["ipc", "pid", "uts", "cgroup", "net"]
    assert daemon.process is not None
    host = [os.readlink(f"/proc/{daemon.process.pid}/ns/{kind}") for kind in kinds]
    assert inside(daemon, *shared.split(), script=script).split() == host
    private = inside(daemon, "--cgroupns", "private", script=script).split()
    assert not set(private) & set(host)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--cap-add FLY", "capability 'FLY': unknown"),
        ("--ulimit files=1", "ulimit 'files': unknown"),
        ("--ulimit nofile=5:3", "above the hard one"),
        ("--device /dev/nothing", "no such file"),
        ("--device /etc/passwd", "is not a device"),
        ("--device-cgroup-rule x", "not understood"),
        ("--tmpfs /x:sise=1", "no option 'sise=1'"),
        ("-m 1m", "at least 6 MiB"),
        ("--memory-swap 10m", "needs one for memory"),
        ("--cpuset-cpus a", "not understood"),
        ("--oom-score-adj 2000", "must be -1000 to 1000"),
        ("--security-opt apparmor=nothing", "AppArmor"),
        ("--security-opt nonsense", "not understood"),
        ("--pid container:x", "not found"),
        ("--log-driver smoke", "unknown"),
        ("--log-opt max-seize=1", "unknown to json-file"),
        ("--log-opt max-size=ten", "max-size is not a size"),
        ("--cgroup-parent ../x", "not an absolute path"),
        ("--blkio-weight 1", "must be 10 to 1000"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(daemon: Daemon, options: str, words: str) -> None:
    assert words in refused(daemon, *options.split())


def test_a_log_is_rotated_and_read_whole(daemon: Daemon) -> None:
    words = "run --name rotated --log-opt max-size=20k --log-opt max-file=50 busybox seq 1 5000"
    expected = "".join(f"{n}\n" for n in range(1, 5001)).encode()
    assert daemon.corectl(*words.split(), check=True).stdout == expected
    assert daemon.corectl("logs", "rotated").stdout == expected
    assert daemon.corectl("logs", "-n", "3", "rotated").stdout == b"4998\n4999\n5000\n"
    place = Path(json.loads(daemon.corectl("inspect", "rotated").stdout)[0]["LogPath"])
    assert len(list(place.parent.glob("log.json.*"))) > 5
    daemon.corectl("rm", "rotated", check=True)
    assert not place.parent.exists()


def test_output_need_not_be_kept(daemon: Daemon) -> None:
    run = ["run", "--name", "unkept", "--log-driver", "none", "busybox", "echo", "seen"]
    assert daemon.corectl(*run, check=True).stdout == b"seen\n"
    assert b"keeps no log" in daemon.corectl("logs", "unkept").stderr
    daemon.corectl("rm", "unkept", check=True)


def test_other_users_of_the_host_do_not_get_at_a_containers_files(busybox: Path) -> None:
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    with daemons.cored() as daemon:
        daemon.ctr("images", "import", str(busybox))
        script = "cp /bin/busybox /data/root; chmod 4755 /data/root; sleep 1000"
        id = daemon.corectl(
            "run", "-d", "-v", "mine:/data", "busybox", "sh", "-c", script, check=True
        ).stdout.decode().strip()  # fmt: skip
        assert subprocess.run([*nobody, "test", "-x", daemon.home], check=False).returncode == 0
        bundle = daemon.home / "state/runtime.shim/default" / id
        (volume,) = json.loads(daemon.corectl("volume", "inspect", "mine").stdout)
        for place in (
            bundle / "config.json", bundle / "rootfs/bin/busybox",
            Path(volume["Mountpoint"]) / "root", daemon.home / "root/metadata.db",
        ):  # fmt: skip
            assert place.exists(), place
            found = subprocess.run([*nobody, "test", "-e", place], check=False)
            assert found.returncode == 1, f"everybody gets at {place}"


@pytest.fixture
def subordinate_ids(private_mounts: None, tmp_path: Path) -> Iterator[None]:
    """/etc/subuid and /etc/subgid of our own."""
    text = "cored:1000000:131072\nothers:2000000:70000\n"
    with ExitStack() as stack:
        for name in ("subuid", "subgid"):
            (tmp_path / name).write_text(text)
            subprocess.run(["mount", "--bind", tmp_path / name, f"/etc/{name}"], check=True)
            stack.callback(subprocess.run, ["umount", f"/etc/{name}"], check=True)
        yield


def test_a_user_namespace_has_ids_of_its_own_and_its_files_look_as_ever(
    subordinate_ids: None, busybox: Path, tmp_path: Path
) -> None:
    script = """
        echo map: $(cat /proc/self/uid_map)
        echo user: $(id -u)
        echo owner: $(stat -c %u:%g /etc/passwd)
        echo new: $(touch /etc/new && chown 33:44 /etc/new && stat -c %u:%g /etc/new)
        echo removed: $(rm /etc/passwd && ls /etc/passwd 2>&1)
        echo mount: $(mount -t tmpfs none /tmp 2>&1)
        echo tuning: $(echo 1 2>&1 > /proc/sys/kernel/panic)
        echo volume: $(stat -c %u /data/mine /etc/hostname) $(touch /data/new && echo written)
    """
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine").touch()
    with daemons.cored() as daemon:
        daemon.ctr("images", "import", str(busybox))
        volume = ("-v", f"{tmp_path}/data:/data")
        found = answers(inside(daemon, "--userns", "auto", *volume, script=script))
        assert found["volume"] == "0 0 written"
        assert (tmp_path / "data/new").stat().st_uid == 0
        assert found["map"].split() == ["0", "1000000", "65536"]
        assert (found["user"], found["owner"], found["new"]) == ("0", "0:0", "33:44")
        assert "No such file" in found["removed"]
        assert "permission denied" in found["mount"]
        run = ["run", "-d", "--userns"]
        for name, first in (("auto", 1000000), ("auto", 1065536), ("others", 2000000)):
            id = daemon.corectl(*run, name, "busybox", "sleep", "1000", check=True).stdout.decode()
            pid = json.loads(daemon.corectl("inspect", id.strip()).stdout)[0]["State"]["Pid"]
            assert int(Path(f"/proc/{pid}/uid_map").read_text().split()[1]) == first
            assert Path(f"/proc/{pid}").stat().st_uid == first
        write = ("sh", "-c", "echo $(stat -c %u /kept 2>&1); touch /kept; stat -c %u /kept")
        id = daemon.corectl(*run, "others", "busybox", *write, check=True).stdout.decode().strip()
        daemon.corectl("wait", id, check=True)
        daemon.corectl("start", "-a", id, check=True)
        assert daemon.corectl("logs", id).stdout.splitlines()[-2:] == [b"0", b"0"]
        none = daemon.corectl(*run, "auto", "busybox", "true")
        assert b"all subordinate ids are in use" in none.stderr
        nobody = daemon.corectl(*run, "stranger", "busybox", "true")
        assert b"has no subordinate ids" in nobody.stderr
