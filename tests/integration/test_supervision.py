"""Daemons and shims that die, hang and come back; what is known and told of containers then."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests import daemons
from tests.daemons import Daemon
from tests.grpc_client import Client, opened
from tests.living import glob, remove_cgroups
from tests.patience import eventually
from tests.tasks import (
    CREATED,
    PAUSED,
    RUNNING,
    STOPPED,
    UNKNOWN,
    Container,
    alive,
    kill_zygote,
    parent,
    rootfs,
)

pytestmark = pytest.mark.root
# a shim's process that a test has looked up is still there when it is killed
AWAKE = "[plugins.runtime.shim]\nidle = 60\n"
# of this run: cgroups are everybody's, and a dead shim's are emptied
CGROUP = f"cored-supervision-{os.getpid()}"
FOREIGN = shutil.which("containerd-shim-runc-v2") or "containerd-shim-runc-v2"
OURS = "io.containerd.runc.v2"


class Place:
    """A daemon of a test's own, a client, and containers."""

    def __init__(self, daemon: Daemon, root: dict[str, Any]) -> None:
        self.daemon = daemon
        self.state = daemon.home / "state/runtime.shim"
        self.root = root
        self.connect()

    def connect(self) -> None:
        self.api = Client(self.daemon.address, "default")

    def container(self, id: str) -> Container:
        return Container(self.api, self.root, CGROUP, id)

    def restart(self) -> None:
        """Kill the daemon, unless that has been done, and start the next one."""
        if self.daemon.process is not None and self.daemon.process.poll() is None:
            self.daemon.kill()
        self.daemon.start()
        self.api.close()
        self.connect()

    def left(self, id: str) -> list[str]:
        """Cgroups, runtime state and mounts of a container."""
        mounts = Path(f"/proc/{self.daemon.process.pid}/mounts").read_text()  # type: ignore[union-attr]
        return [
            *map(str, glob(Path("/sys/fs/cgroup"), f"*/{CGROUP}/{id}")),
            *map(str, (self.state / ".runtime/default").glob(id)),
            *(line for line in mounts.splitlines() if f"/default/{id}/rootfs" in line),
        ]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with rootfs(tmp_path / "root", CGROUP) as root, daemons.cored(AWAKE) as daemon:
        made = Place(daemon, root)
        yield made
        made.api.close()


def exits(seen: Any, id: str) -> list[tuple[str, int]]:
    """Each exit event of a container's processes: whose, and the status."""
    events = [opened(e) for e in seen.envelopes if e.topic == "/tasks/exit"]
    return [(event.id, event.exit_status) for event in events if event.container_id == id]


def test_an_exec_that_ends_after_a_restart_is_told_once(place: Place) -> None:
    box = place.container("execs")
    box.run("sleep", "1000")
    box.exec("seen", "sh", "-c", "exit 3")
    box.exec("long", "sh", "-c", "while [ ! -e /proc/1/root/tmp ]; do sleep 0.2; done")
    execs = place.state / "default/execs/execs"
    eventually(lambda: [path.name for path in execs.iterdir()] == ["long"])
    place.restart()
    box = place.container("execs")
    with place.api.watching() as seen:
        box.call("Kill", exec_id="long", signal=9)
        assert box.call("Wait", exec_id="long").exit_status == 137
        assert box.call("Wait", exec_id="seen").exit_status == 3
    assert exits(seen, "execs") == [("long", 137)]
    assert not list(execs.iterdir())
    assert box.call("DeleteProcess", exec_id="long").exit_status == 137
    assert box.call("DeleteProcess", exec_id="seen").exit_status == 3
    assert not list((place.state / "default/execs/exits").iterdir())


def test_the_exit_of_an_exec_outlives_daemon_and_shim(place: Place) -> None:
    box = place.container("both")
    pid = box.run("sleep", "1000")
    box.exec("e", "sh", "-c", "sleep 0.5; exit 9")
    place.daemon.kill()
    eventually((place.state / "default/both/exits/e").exists)
    os.kill(parent(pid), signal.SIGKILL)
    place.restart()
    box = place.container("both")
    assert box.call("Wait", exec_id="e").exit_status == 9
    assert box.call("Wait").exit_status == 137
    assert not alive(pid)


@pytest.fixture
def drowsy(tmp_path: Path) -> Iterator[Place]:
    """A place whose shims go to sleep at once."""
    with (
        rootfs(tmp_path / "root", CGROUP) as root,
        daemons.cored("[plugins.runtime.shim]\nidle = 0.1\n") as daemon,
    ):
        made = Place(daemon, root)
        yield made
        made.api.close()


def asleep(place: Place, *ids: str) -> list[tuple[str, int]]:
    """The words that shims have left, once all sleep: a file each, by its name and inode."""
    notes = [place.state / "default" / id / "asleep" for id in ids]
    eventually(lambda: all(note.exists() for note in notes))
    return [(note.parent.name, note.stat().st_ino) for note in notes]


def test_a_restart_wakes_no_shim_and_knows_every_task(drowsy: Place) -> None:
    boxes = {id: drowsy.container(id) for id in ("runs", "waits", "paused", "over")}
    pids = {id: boxes[id].run("sleep", "1000") for id in ("runs", "paused")}
    boxes["waits"].record("sleep", "1000")
    pids["waits"] = boxes["waits"].create()
    boxes["paused"].call("Pause")
    pids["over"] = boxes["over"].run("sh", "-c", "exit 6")
    assert boxes["over"].call("Wait").exit_status == 6
    before = asleep(drowsy, *boxes)
    drowsy.restart()
    found = {task.id: (task.status, task.pid) for task in drowsy.api.tasks.List().tasks}
    statuses = {"runs": RUNNING, "waits": CREATED, "paused": PAUSED, "over": STOPPED}
    assert found == {id: (status, pids[id]) for id, status in statuses.items()}
    assert asleep(drowsy, *boxes) == before
    assert "asleep=4" in drowsy.daemon.log or '"asleep": 4' in drowsy.daemon.log
    boxes = {id: drowsy.container(id) for id in boxes}
    with drowsy.api.watching() as seen:
        boxes["waits"].call("Start")
        assert boxes["waits"].state().status == RUNNING
        boxes["paused"].call("Resume")
        for id in ("runs", "waits", "paused"):
            os.kill(pids[id], signal.SIGKILL)
        for id, status in (("runs", 137), ("waits", 137), ("paused", 137), ("over", 6)):
            assert boxes[id].call("Wait").exit_status == status
            assert boxes[id].call("Delete").exit_status == status
    for id in ("runs", "waits", "paused"):
        assert exits(seen, id) == [(id, 137)]
    assert exits(seen, "over") == []


def test_ends_while_no_daemon_runs_are_told_by_the_next_one(drowsy: Place) -> None:
    ended, killed = drowsy.container("ended"), drowsy.container("killed")
    init = ended.run("sleep", "1000")
    orphan = killed.run("sleep", "1000")
    asleep(drowsy, "ended", "killed")
    shim = json.loads((drowsy.state / "default/killed/asleep").read_text())["shim"]
    drowsy.daemon.kill()
    os.kill(init, signal.SIGTERM)
    os.kill(init, signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    eventually((drowsy.state / "default/ended/exit.json").exists)
    drowsy.restart()
    ended, killed = drowsy.container("ended"), drowsy.container("killed")
    for box in (ended, killed):
        assert box.call("Wait").exit_status == 137
        assert (box.state().status, box.state().exit_status) == (STOPPED, 137)
        assert box.call("Delete").exit_status == 137
        assert not drowsy.left(box.id)
    assert not alive(orphan)


def test_a_note_of_a_shim_whose_pid_is_another_s_is_not_believed(drowsy: Place) -> None:
    box = drowsy.container("box")
    pid = box.run("sleep", "1000")
    asleep(drowsy, "box")
    note = drowsy.state / "default/box/asleep"
    said = json.loads(note.read_text())
    drowsy.daemon.kill()
    os.kill(said["shim"], signal.SIGKILL)
    eventually(lambda: not alive(said["shim"]))
    # as if the kernel had given the numbers of both to somebody who lives
    note.write_text(json.dumps({**said, "shim": os.getpid(), "pid": os.getpid()}))
    drowsy.restart()
    box = drowsy.container("box")
    assert box.call("Wait").exit_status == 137
    assert box.call("Delete").exit_status == 137
    assert not alive(pid)


def test_the_death_of_a_sleeping_shim_is_seen_after_a_restart(drowsy: Place) -> None:
    box = drowsy.container("box")
    pid = box.run("sleep", "1000")
    asleep(drowsy, "box")
    shim = json.loads((drowsy.state / "default/box/asleep").read_text())["shim"]
    drowsy.restart()
    with drowsy.api.watching() as seen:
        os.kill(shim, signal.SIGKILL)
        eventually(lambda: exits(seen, "box"))
    assert exits(seen, "box") == [("box", 137)]
    assert not alive(pid)
    assert drowsy.container("box").call("Delete").exit_status == 137


def test_a_half_written_note_is_no_note(drowsy: Place) -> None:
    box = drowsy.container("box")
    box.run("sleep", "1000")
    asleep(drowsy, "box")
    drowsy.daemon.kill()
    (drowsy.state / "default/box/asleep").write_text('{"shim": 1')
    drowsy.restart()
    assert drowsy.container("box").state().status == RUNNING


@pytest.mark.parametrize("runtime", [OURS, FOREIGN], ids=["ours", "containerd's"])
def test_a_shim_that_dies_takes_all_along_and_every_exit_is_told(
    place: Place, runtime: str
) -> None:
    box = place.container("dies")
    pid = box.run("sleep", "1000", runtime=runtime)
    box.exec("e", "sleep", "1000")
    assert place.left("dies")
    socket = (place.state / "default/dies/address").read_text().strip().removeprefix("unix://")
    with place.api.watching() as seen:
        os.kill(parent(pid), signal.SIGKILL)
        eventually(lambda: len(exits(seen, "dies")) == 2)
    assert sorted(exits(seen, "dies")) == [("dies", 137), ("e", 137)]
    assert not alive(pid)
    assert not place.left("dies")
    if runtime == OURS:
        assert not Path(socket).exists()
    place.restart()
    box = place.container("dies")
    with place.api.watching() as seen:
        assert box.state().status == STOPPED
        with pytest.raises(grpc.RpcError) as refused:
            box.call("Kill", signal=15)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert box.call("Delete").exit_status == 137
    assert exits(seen, "dies") == []
    assert not (place.state / "default/dies").exists()


def test_the_death_of_a_shim_whose_container_has_ended_changes_nothing(place: Place) -> None:
    box = place.container("ended")
    box.record("sh", "-c", "sleep 0.3; exit 5")
    shim = parent(box.create())
    box.call("Start")
    assert box.call("Wait").exit_status == 5
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: not place.left("ended"))
    assert (box.state().status, box.state().exit_status) == (STOPPED, 5)
    assert box.call("Delete").exit_status == 5


def test_a_shim_that_hangs_holds_nobody_up(place: Place) -> None:
    hung, other = place.container("hung"), place.container("other")
    shim = parent(hung.run("sleep", "1000"))
    other.run("sleep", "1000")
    os.kill(shim, signal.SIGSTOP)
    try:
        place.restart()
        hung, other = place.container("hung"), place.container("other")
        found = {task.id: task.status for task in place.api.tasks.List().tasks}
        assert found == {"hung": UNKNOWN, "other": RUNNING}
        with pytest.raises(grpc.RpcError) as refused:
            hung.call("Kill", signal=9)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert f"task 'hung': its shim (pid {shim}) does not answer" in refused.value.details()
        assert "UNKNOWN" in place.daemon.ctr("tasks", "ls").stdout
        assert (
            "does not answer" in place.daemon.ctr("tasks", "rm", "-f", "hung", check=False).stderr
        )
        other.remove()
    finally:
        os.kill(shim, signal.SIGCONT)
    eventually(lambda: hung.state().status == RUNNING)
    hung.call("Kill", signal=9)
    assert hung.call("Wait").exit_status == 137


def test_corectl_says_what_it_can_of_hung_and_dead_shims(place: Place, busybox: Path) -> None:
    corectl = place.daemon.corectl
    corectl("image", "import", str(busybox), check=True)
    ids = {}
    for name in ("hangs", "falls"):
        ids[name] = corectl("run", "-d", "--name", name, "busybox", "sleep", "1000", check=True)
    boxes = {name: place.container(done.stdout.decode().strip()) for name, done in ids.items()}
    shim = parent(boxes["hangs"].pid())
    os.kill(parent(boxes["falls"].pid()), signal.SIGKILL)
    os.kill(shim, signal.SIGSTOP)
    try:
        place.restart()
        corectl = place.daemon.corectl
        shown = corectl("ps", "-a", check=True).stdout.decode()
        assert "unknown" in next(line for line in shown.splitlines() if "hangs" in line).lower()
        assert corectl("inspect", "hangs").returncode == 0
        refused = corectl("rm", "-f", "hangs")
        assert refused.returncode != 0
        assert b"does not answer" in refused.stderr
        assert corectl("wait", "falls", check=True).stdout.strip() == b"137"
        corectl("rm", "-f", "falls", check=True)
    finally:
        os.kill(shim, signal.SIGKILL)
    corectl("rm", "-f", "hangs", check=True)
    assert "hangs" not in corectl("ps", "-a", check=True).stdout.decode()


def test_calls_under_way_fail_when_a_shim_stops_answering(place: Place) -> None:
    box = place.container("stops")
    shim = parent(box.run("sleep", "1000"))
    os.kill(shim, signal.SIGSTOP)
    try:
        assert place.api.tasks.List().tasks[0].status == UNKNOWN
        with pytest.raises(grpc.RpcError) as refused:
            box.call("Pause")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        # the way out that the message names
        os.kill(shim, signal.SIGKILL)
        assert box.call("Wait").exit_status == 137
        assert not place.left("stops")
    finally:
        if alive(shim):
            os.kill(shim, signal.SIGCONT)


def test_after_a_reboot_no_pid_is_believed(place: Place) -> None:
    box = place.container("before")
    pid = box.run("sleep", "1000")
    shim = parent(pid)
    place.daemon.kill()
    (place.state / ".boot").write_text("another boot")
    os.kill(shim, signal.SIGSTOP)
    try:
        place.restart()
        box = place.container("before")
        with place.api.watching() as seen:
            assert (box.state().status, box.state().exit_status) == (STOPPED, 255)
            assert box.call("Delete").exit_status == 255
        # it is told once, perhaps before we could listen
        assert exits(seen, "before") in ([], [("before", 255)])
        assert alive(pid), "a process that may be anybody's by now was killed"
        assert not (place.state / "default/before").exists()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.kill(shim, signal.SIGKILL)
        eventually(lambda: not alive(pid))
        remove_cgroups(f"*/{CGROUP}/before")


def test_an_end_that_did_not_reach_the_disk_before_a_power_cut_is_unknown(place: Place) -> None:
    box = place.container("before")
    pid = box.run("sleep", "1000")
    shim = parent(pid)
    box.call("Kill", signal=9)
    eventually(lambda: box.state().status == STOPPED)
    place.daemon.kill()
    os.kill(shim, signal.SIGKILL)
    (place.state / ".boot").write_text("another boot")
    (place.state / "default/before/exit.json").write_bytes(b"")
    place.restart()
    box = place.container("before")
    assert (box.state().status, box.state().exit_status) == (STOPPED, 255)
    box.call("Delete")
    assert not (place.state / "default/before").exists()
    remove_cgroups(f"*/{CGROUP}/before")


def test_a_damaged_bundle_does_not_keep_the_daemon_from_serving(place: Place) -> None:
    box = place.container("well")
    box.run("sleep", "1000")
    place.daemon.kill()
    damaged = place.state / "default/damaged"
    damaged.mkdir()
    (damaged / "exit.json").write_text("{")
    place.restart()
    assert place.container("well").state().status == RUNNING
    assert "cannot be read" in place.daemon.log
    shutil.rmtree(damaged)


def test_a_create_that_the_daemon_did_not_see_end_leaves_nothing(place: Place) -> None:
    """Killed at any moment of it: afterwards there is a whole task, or none and no trace."""
    for number, moment in enumerate((0.0, 0.01, 0.02, 0.03, 0.05, 0.08)):
        box = place.container(f"half{number}")
        box.record("sleep", "1000")

        def create(box: Container = box) -> None:
            with pytest.raises(grpc.RpcError):
                box.create()
                raise grpc.RpcError  # it was faster than the kill

        thread = threading.Thread(target=create)
        thread.start()
        threading.Event().wait(moment)
        place.restart()
        thread.join()
        box = place.container(f"half{number}")
        if any(task.id == box.id for task in place.api.tasks.List().tasks):
            box.call("Start")
            box.remove()
        else:
            place.api.containers.Delete(id=box.id)
        assert not place.left(box.id)
        assert not (place.state / "default" / box.id).exists()
        assert not subprocess.run(
            ["pgrep", "-f", f"{place.state}/default/{box.id}"], stdout=subprocess.PIPE, check=False
        ).stdout


def test_a_shim_that_dies_in_the_middle_of_a_create_leaves_nothing(place: Place) -> None:
    for number, moment in enumerate((0.005, 0.015, 0.03, 0.05)):
        box = place.container(f"torn{number}")
        box.record("sleep", "1000")
        bundle = place.state / "default" / box.id
        failed = False

        def kill_shim(bundle: Path = bundle, moment: float = moment) -> None:
            eventually((bundle / "address").exists)
            threading.Event().wait(moment)
            for path in Path("/proc").iterdir():
                try:
                    here = path.name.isdecimal() and os.readlink(path / "cwd") == str(bundle)
                    if here and b"zygote" in (path / "cmdline").read_bytes():
                        os.kill(int(path.name), signal.SIGKILL)
                except OSError:
                    continue

        thread = threading.Thread(target=kill_shim)
        thread.start()
        try:
            box.create()
        except grpc.RpcError as error:
            failed = True
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error.details()
        thread.join()
        if failed:
            assert not bundle.exists()
            place.api.containers.Delete(id=box.id)
        else:
            box.remove()
        assert not place.left(box.id)


def test_the_zygote_may_die_with_starts_under_way(place: Place) -> None:
    boxes = [place.container(f"many{number}") for number in range(8)]
    for box in boxes:
        box.record("true")
    failures: list[grpc.RpcError] = []

    def create(box: Container) -> None:
        try:
            box.create()
        except grpc.RpcError as error:
            failures.append(error)

    threads = [threading.Thread(target=create, args=(box,)) for box in boxes]
    for number, thread in enumerate(threads):
        thread.start()
        if number in (2, 5):
            kill_zygote(place.daemon.process.pid)  # type: ignore[union-attr]
    for thread in threads:
        thread.join()
    assert not failures
    for box in boxes:
        box.remove()
