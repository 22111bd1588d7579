"""Whatever a client sends, the daemon answers with a code of its own, lives on and keeps nothing.

``CORED_FUZZ_EXAMPLES`` is the number of requests to each RPC (default 60; the same ones every
time). The daemon runs in a network namespace of its own: nothing that it is asked to pull can
leave the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import daemons
from tests.conftest import PROJECT
from tests.daemons import Daemon
from tests.grpc_client import RPCS, Client, kept, message
from tests.living import glob
from tests.messages import any_bytes, messages

pytestmark = pytest.mark.root

EXAMPLES = int(os.environ.get("CORED_FUZZ_EXAMPLES", "60"))
NAMESPACE = "fuzz"
IMAGE = "docker.io/library/busybox:latest"
SPEC = b'{"ociVersion":"1.1.0","process":{"args":["true"],"cwd":"/"},"root":{"path":"rootfs"}}'
# what may last as long as the client likes
PATIENT = {"Subscribe", "Wait", "Stream"}
OURS = {"INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"}
# a malformed request is INTERNAL by gRPC's own table, and what an OCI runtime says is UNKNOWN
THEIRS = ("the request is no valid ", "OCI runtime ")


@dataclass
class Target:
    """The daemon, and what requests may name."""

    daemon: Daemon
    words: Sequence[str] = ()
    places: dict[str, Sequence[str]] = None  # type: ignore[assignment]
    held: Sequence[Any] = ()

    @property
    def pid(self) -> int:
        """Of the daemon."""
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def client(self) -> Client:
        """A client of its own connection."""
        return Client(self.daemon.address, NAMESPACE)

    def keeps(self) -> dict[str, Sequence[str]]:
        """What the daemon holds of the machine."""
        proc = Path(f"/proc/{self.pid}")
        descriptors = []
        for link in (proc / "fd").iterdir():
            try:
                descriptors.append(os.readlink(link).partition(":[")[0])
            except FileNotFoundError:  # closed meanwhile
                continue
        mounts = [line.split()[4] for line in (proc / "mountinfo").read_text().splitlines()]
        processes = [
            command
            for other in Path("/proc").glob("[0-9]*/cmdline")
            if str(self.daemon.home) in (command := _text(other))
        ]
        # a namespace's own directories stay, empty, and the one that bundles are removed in
        state = [
            str(path)
            for path in glob(self.daemon.home / "state", "**/*")
            if path.name not in (NAMESPACE, ".runtime", ".gone")
        ]
        return {
            "descriptors": sorted(descriptors),
            "mounts": sorted(mounts),
            "processes": sorted(processes),
            "state": sorted(state),
        }

    def kept_beyond(self, before: dict[str, Sequence[str]]) -> dict[str, list[str]]:
        """What it holds more of than ``before``, once it has had time to let go."""
        end = time.monotonic() + 60
        while True:
            more = {kind: _more(now, before[kind]) for kind, now in self.keeps().items()}
            more = {kind: items for kind, items in more.items() if items}
            if not more or time.monotonic() > end:
                return more
            time.sleep(0.2)

    def check(self) -> None:
        """It is there, answers, and has not logged a fault of its own."""
        assert self.daemon.process is not None
        assert self.daemon.process.poll() is None
        with self.client() as api:
            assert api.version.Version().version
        lines = self.daemon.log.splitlines()
        for number, line in enumerate(lines):
            if "Traceback" in line or '"level": "error"' in line:
                pytest.fail("\n".join(lines[number : number + 25]), pytrace=False)

    def clear(self) -> None:
        """Remove every record in the namespace, as a client would."""
        with self.client() as api:
            for sandbox in api.store.List().list:
                _tried(lambda s=sandbox: api.controller.Shutdown(sandbox_id=s.sandbox_id))
                api.store.Delete(sandbox_id=sandbox.sandbox_id)
            for activation in api.mounts.List():
                api.mounts.Deactivate(name=activation.info.name)
            for status in api.content.ListStatuses().statuses:
                api.content.Abort(ref=status.ref)
            for lease in api.leases.List().leases:
                api.leases.Delete(id=lease.id)
            for task in api.tasks.List().tasks:  # perhaps without a container by now
                _tried(lambda t=task: api.tasks.Resume(container_id=t.id))
                _tried(lambda t=task: api.tasks.Kill(container_id=t.id, signal=9))
                _tried(lambda t=task: api.tasks.Wait(container_id=t.id))
                api.tasks.Delete(container_id=task.id)
        self.daemon.remove_all()


def _more(now: Sequence[str], before: Sequence[str]) -> list[str]:
    left = list(before)
    return [item for item in now if not (item in left and not left.remove(item))]  # type: ignore[func-returns-value]


def _text(path: Path) -> str:
    try:
        return path.read_text().replace("\0", " ")
    except OSError:  # it has ended
        return ""


def _tried(call: Callable[[], Any]) -> tuple[str, str]:
    """(status, details) of a call."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


@pytest.fixture(scope="module")
def running(busybox: Path, private_mounts: None) -> Iterator[Target]:
    """A daemon; at the end nothing may be left of all that it was asked for."""
    with daemons.cored(within=("unshare", "--net")) as daemon:
        found = Target(daemon)
        # the processes and sockets that a daemon makes at first use stay
        daemon.ctr("images", "import", str(busybox))
        daemon.ctr("run", "--rm", IMAGE, "first", "true")
        before = found.keeps()
        _describe(found)
        yield found
        found.clear()
        found.check()
        assert found.kept_beyond(before) == {}


@pytest.fixture
def target(running: Target, busybox: Path) -> Target:
    """The daemon with one of each record, whatever the test before has left of them."""
    with running.client() as api:
        if not api.images.List(filters=[f"name=={IMAGE}"]).images:
            running.daemon.ctr("-n", NAMESPACE, "images", "import", str(busybox))
        box = {
            "id": "box",
            "image": IMAGE,
            "spec": kept("types.containerd.io/opencontainers/runtime-spec/1/Spec", SPEC),
            "snapshotter": "overlayfs",
            "snapshot_key": "active",
            "runtime": {"name": "io.containerd.runc.v2"},
        }
        for make in (
            lambda: api.leases.Create(id="lease"),
            lambda: api.snapshots.Prepare(snapshotter="overlayfs", key="active"),
            lambda: api.containers.Create(container=box),
        ):
            assert _tried(make)[0] in ("OK", "ALREADY_EXISTS")
        if _tried(lambda: api.tasks.Get(container_id="busy"))[0] != "OK":
            ctr = ("-n", NAMESPACE)
            running.daemon.ctr(*ctr, "containers", "rm", "busy", check=False)
            running.daemon.ctr(*ctr, "run", "-d", "--null-io", IMAGE, "busy", "sleep", "1000")
    return running


def _describe(target: Target) -> None:
    """What requests may say to the daemon."""
    home = target.daemon.home
    target.words = (
        NAMESPACE, "lease", "active", "box", "busy", "busy", "new", "overlayfs",
        "native", "walking", "x", IMAGE, "sha256:" + "0" * 64,
        "io.containerd.runc.v2", "linux", "amd64", "bind", "overlay", "ro", "tmpfs", "loop",
        "labels.a", "labels", "image", "name==x", 'labels."a.b"==x', "id~=.*", "name~=(", "==",
        "containerd.io/gc.root", "containerd.io/gc.ref.content", "containerd.io/gc.expire",
        "2030-01-01T00:00:00Z", "gzip", "application/vnd.oci.image.index.v1+json",
        "127.0.0.1:1/a/b:c", "shim",
    )  # fmt: skip
    junk = home / "junk"
    junk.mkdir()
    nothing = f"{junk}/none"
    target.places = {
        "source": (str(junk), "overlay", "tmpfs", nothing, "", "{{ mount 0 }}"),
        "target": (f"{junk}/at", "", "relative", "../../up"),
        "options": ("ro", "rw", "bind", f"lowerdir={junk}", "size=4k", "loop", "x" * 5000),
        "stdin": ("", nothing, "relative"),
        "stdout": ("", f"file://{junk}/log", nothing, "binary:///none", "what://ever"),
        "stderr": ("", f"file://{junk}/log", nothing, "relative"),
        "runtime_path": ("", nothing, "runc", "relative"),
        "task_api_address": ("", f"unix://{nothing}", "vsock://1:2", "?"),
        "address": ("", f"unix://{nothing}"),
        **dict.fromkeys(("bundle_path", "path", "root", "config_path"), ("", str(junk), nothing)),
        **dict.fromkeys(("netns_path", "host_dir"), ("", nothing)),
    }
    target.held = (
        message("containerd.events.NamespaceDelete", name="x"),
        message("containerd.types.transfer.ImageStore", name=IMAGE),
        message("containerd.types.transfer.OCIRegistry", reference="127.0.0.1:1/a/b:c"),
        message("containerd.types.transfer.ImageImportStream", stream="none"),
        message("containerd.types.transfer.ImageExportStream", stream="none"),
        message("containerd.services.streaming.v1.StreamInit", id="stream"),
        message("containerd.types.transfer.Data", data=b"x"),
        message("containerd.types.transfer.WindowUpdate", update=-5),
        message("containerd.runc.v1.Options", shim_cgroup="x"),
    )


@pytest.mark.parametrize(("noun", "method"), RPCS, ids=map(".".join, RPCS))
def test_any_request_has_an_answer(target: Target, noun: str, method: str) -> None:
    with target.client() as api:
        rpc = getattr(getattr(api, noun), method)
        typed = messages(rpc.request.DESCRIPTOR, target.words, target.held, target.places)
        sent = st.one_of(typed.map(lambda m: m.SerializeToString()), any_bytes(typed))
        requests = st.lists(sent, min_size=1, max_size=4 if rpc.streams_in else 1)
        patient = method in PATIENT
        seconds = 0.1 if patient else 20.0

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(requests)
        def fuzz(given_requests: list[bytes]) -> None:
            code, details = _tried(lambda: rpc.raw(*given_requests, timeout=seconds))
            if patient and code == "DEADLINE_EXCEEDED":
                return
            if code in OURS and not details.startswith(THEIRS):
                pytest.fail(f"{code}: {details}", pytrace=False)

        fuzz()
    target.check()


@pytest.mark.parametrize(("noun", "method"), RPCS, ids=map(".".join, RPCS))
def test_unknown_fields_are_passed_over(target: Target, noun: str, method: str) -> None:
    """A client that is newer than the daemon gets the answer that one of its age gets."""
    if noun in ("events", "streaming") and method in ("Subscribe", "Stream"):
        pytest.skip("its answer is what others do meanwhile")
    with target.client() as api:
        rpc = getattr(getattr(api, noun), method)
        plain, newer = (_tried(lambda d=data: rpc.raw(d)) for data in (b"", b"\xfa\xff\x01\x03abc"))
        assert newer == plain
        assert plain[0] not in OURS


def test_headers_that_nobody_should_send(target: Target) -> None:
    for namespace in ("", " ", "a/b", "../x", "x" * 77, "-", "a..b", "-x"):
        with Client(target.daemon.address, namespace) as api:
            code, _ = _tried(api.images.List)
            assert code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION"), (namespace, code)
    with Client(target.daemon.address, NAMESPACE, "no-such-lease") as api:
        assert _tried(lambda: api.put(b"leased"))[0] in ("NOT_FOUND", "FAILED_PRECONDITION")
        assert _tried(api.images.List)[0] == "OK"
    target.check()


def test_huge_requests(target: Target) -> None:
    with target.client() as api:
        assert _tried(lambda: api.images.List(filters=["name==x"] * 50_000))[0] == "OK"
        assert _tried(lambda: api.images.List(filters=["name==" + "x" * 5_000_000]))[0] == "OK"
        assert _tried(lambda: api.images.List(filters=["(" * 2_000_000]))[0] == "INVALID_ARGUMENT"
        deep = "name==x," * 400_000 + "name==x"
        assert _tried(lambda: api.images.List(filters=[deep]))[0] == "OK"
        paths = {"paths": ["labels.a"] * 100_000}
        image = {"name": "huge", "target": {"digest": "sha256:" + "0" * 64, "media_type": "x/y"}}
        code, _ = _tried(lambda: api.images.Update(image=image, update_mask=paths))
        assert code in ("NOT_FOUND", "INVALID_ARGUMENT")
        # beyond the 16 MiB that containerd takes
        code, _ = _tried(lambda: api.images.List(filters=["x" * (17 << 20)]))
        assert code == "RESOURCE_EXHAUSTED"
    target.check()


def test_a_huge_list_is_answered(target: Target) -> None:
    with target.client() as api:
        labels = {f"l{n}": "v" * 1000 for n in range(20)}
        for n in range(700):
            api.leases.Create(id=f"huge{n}", labels=labels)
        found = api.leases.List(filters=["id~=^huge"]).leases
        assert len(found) == 700
        assert all(len(lease.labels) == 20 for lease in found)
        for n in range(700, 900):
            api.leases.Create(id=f"huge{n}", labels=labels)
        # beyond the 16 MiB of containerd's default
        assert _tried(api.leases.List)[0] == "RESOURCE_EXHAUSTED"
        for n in range(900):
            api.leases.Delete(id=f"huge{n}")
    target.check()


VANISH = """
import os, signal, sys
sys.path.insert(0, {project!r})
from tests.grpc_client import Client, kept, message
api = Client({address!r}, {namespace!r})
digest = {digest!r}
def open_ended(*requests):
    yield from requests
    import threading
    threading.Event().wait()
write = api.content.Write(open_ended(
    api.content.Write.request(action="WRITE", ref="gone-" + str(os.getpid()), data=b"x" * 100_000)))
next(write)
read = api.content.Read(digest=digest)
next(read)
init = kept("containerd.services.streaming.v1.StreamInit",
    message("containerd.services.streaming.v1.StreamInit", id="gone-" + str(os.getpid())))
stream = api.streaming.Stream(open_ended(init))
next(stream)
events = api.events.Subscribe(timeout=100)
unary = [api.tasks.List._call.future(api.tasks.List.request(), metadata=api.metadata)
    for _ in range(50)]
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_clients_that_vanish(target: Target) -> None:
    with target.client() as api:
        big = api.put(os.urandom(8 << 20), ref="big", labels={"containerd.io/gc.root": "yes"})
        api.tasks.List()  # the daemon's connections to shims are made as they are needed
        before = target.keeps()
        script = VANISH.format(
            project=str(PROJECT),
            address=str(target.daemon.address),
            namespace=NAMESPACE,
            digest=big,
        )
        clients = [
            subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
            for _ in range(6)
        ]
        for client in clients:
            out, _ = client.communicate(timeout=60)
            assert out == b"ready\n"
            assert client.returncode == -signal.SIGKILL
        target.check()
        gone = [s.ref for s in api.content.ListStatuses().statuses if s.ref.startswith("gone-")]
        # what they wrote waits for them, as long as an ingest does
        assert len(gone) == 6
        for ref in gone:
            api.content.Abort(ref=ref)  # nobody holds it any more
        assert target.kept_beyond(before) == {}
        api.content.Delete(digest=big)
