"""containerd's sandbox Store and Controller with a plain client, kept by our own shim."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cored._pb.containerd.events import sandbox_pb2 as events
from tests.daemons import Daemon, cored
from tests.grpc_client import Client
from tests.patience import eventually

pytestmark = pytest.mark.root
RUNTIME = {"name": "io.containerd.cored.v2"}
CONTROLLER = "containerd.services.sandbox.v1.Controller"


@pytest.fixture(scope="module")
def running(private_mounts: None) -> Iterator[Daemon]:
    with cored() as daemon:
        yield daemon


@pytest.fixture
def api(running: Daemon, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(running.address, request.node.name[:60]) as api:
        yield api


def record(id: str = "box", **values: Any) -> dict[str, Any]:
    return {"sandbox_id": id, "runtime": RUNTIME, "sandboxer": "shim", **values}


def begin(api: Client, id: str = "box") -> Any:
    api.store.Create(sandbox=record(id))
    made = api.controller.Create(sandbox_id=id, sandbox=record(id), sandboxer="shim")
    assert made.sandbox_id == id
    return api.controller.Start(sandbox_id=id, sandboxer="shim")


def end(api: Client, id: str = "box") -> None:
    api.controller.Shutdown(sandbox_id=id, sandboxer="shim")
    api.store.Delete(sandbox_id=id)


KINDS = {
    "/sandboxes/create": events.SandboxCreate,
    "/sandboxes/start": events.SandboxStart,
    "/sandboxes/exit": events.SandboxExit,
}


@contextmanager
def telling(api: Client, *topics: str) -> Iterator[None]:
    """Of the sandboxes of a namespace these events come, in this order, from body to end."""
    with api.watching(f'namespace=={api.namespace},topic~="/sandboxes/"') as seen:
        yield
        seen.wait(*topics)
    assert seen.topics == list(topics)
    for envelope in seen.envelopes:
        assert envelope.event.type_url == KINDS[envelope.topic].DESCRIPTOR.full_name
        assert KINDS[envelope.topic].FromString(envelope.event.value).sandbox_id == "box"


def test_records_are_kept_updated_listed_and_deleted(api: Client) -> None:
    spec = {"type_url": "some/spec", "value": b"{}"}
    extension = {"type_url": "x/y", "value": b"1"}
    made = api.store.Create(
        sandbox=record(labels={"a.b": "1"}, spec=spec, extensions={"e": extension})
    ).sandbox
    assert made.created_at.seconds == made.updated_at.seconds > 0
    assert api.store.Get(sandbox_id="box").sandbox == made
    assert (made.spec.type_url, made.spec.value) == ("some/spec", b"{}")
    with api.refused("ALREADY_EXISTS"):
        api.store.Create(sandbox=record())
    changed = api.store.Update(
        sandbox=record(labels={"a.b": "2", "c": "3"}), fields=["labels.a.b"]
    ).sandbox
    assert dict(changed.labels) == {"a.b": "2"}
    assert changed.extensions["e"].value == b"1"
    with api.refused("INVALID_ARGUMENT"):
        api.store.Update(sandbox=record(), fields=["created_at"])
    api.store.Create(sandbox=record("other"))

    def ids(*filters: str) -> list[str]:
        return [found.sandbox_id for found in api.store.List(filters=filters).list]

    assert ids() == ["box", "other"]
    assert ids('labels."a.b"==2') == ["box"]
    assert ids("id==other") == ["other"]
    assert list(api.within("elsewhere").store.List().list) == []
    elsewhere = api.within("elsewhere").store
    for call in (
        lambda: elsewhere.Get(sandbox_id="box"),
        lambda: elsewhere.Update(sandbox=record()),
        lambda: elsewhere.Delete(sandbox_id="box"),
    ):
        with api.refused("NOT_FOUND"):
            call()
    elsewhere.Create(sandbox=record())
    elsewhere.Delete(sandbox_id="box")
    assert ids() == ["box", "other"]
    with api.refused("INVALID_ARGUMENT"):
        ids("==")
    for id in ("box", "other"):
        api.store.Delete(sandbox_id=id)
        with api.refused("NOT_FOUND"):
            api.store.Delete(sandbox_id=id)
    for bad in ("", "a/b", "x" * 77):
        with api.refused("INVALID_ARGUMENT"):
            api.store.Create(sandbox=record(bad))
    with api.refused("FAILED_PRECONDITION", "namespace"):
        api.within(None).store.Get(sandbox_id="box")


def test_a_sandbox_lives_its_life_and_tells(api: Client) -> None:
    # one exit, however many wait
    with telling(api, "/sandboxes/create", "/sandboxes/start", "/sandboxes/exit"):
        pid = _life(api)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def _life(api: Client) -> int:
    """A whole one, with three who wait for its end; the shim's pid."""
    started = begin(api)
    assert started.pid > 0
    assert started.address.startswith("unix://")
    status = api.controller.Status(sandbox_id="box", sandboxer="shim", verbose=True)
    assert (status.state, status.pid) == ("SANDBOX_READY", started.pid)
    assert status.created_at == started.created_at
    platform = api.controller.Platform(sandbox_id="box", sandboxer="shim").platform
    assert platform.os == "linux"
    metrics = api.controller.Metrics(sandbox_id="box", sandboxer="shim").metrics
    assert (metrics.id, metrics.timestamp.seconds > 0) == ("box", True)
    api.controller.Update(sandbox_id="box", sandboxer="shim", sandbox=record(), fields=["labels"])
    waits: list[Any] = []
    waiters = [
        threading.Thread(
            target=lambda: waits.append(api.controller.Wait(sandbox_id="box", sandboxer="shim"))
        )
        for _ in range(3)
    ]
    for waiter in waiters:
        waiter.start()
    api.controller.Stop(sandbox_id="box", sandboxer="shim", timeout_secs=5)
    for waiter in waiters:
        waiter.join(60)
    assert [w.exit_status for w in waits] == [0, 0, 0]
    assert api.controller.Status(sandbox_id="box", sandboxer="shim").state == "SANDBOX_NOTREADY"
    end(api)
    return int(started.pid)


def test_errors_have_their_codes(api: Client) -> None:
    begin(api)
    with api.refused("ALREADY_EXISTS"):
        api.controller.Create(sandbox_id="box", sandbox=record(), sandboxer="shim")
    with api.refused("FAILED_PRECONDITION"):
        api.controller.Start(sandbox_id="box", sandboxer="shim")
    for method in ("Start", "Platform", "Wait", "Status", "Shutdown", "Metrics"):
        with api.refused("NOT_FOUND", "'none'"):
            getattr(api.controller, method)(sandbox_id="none", sandboxer="shim")
        with api.refused("NOT_FOUND", "controller 'nobody'"):
            getattr(api.controller, method)(sandbox_id="box", sandboxer="nobody")
        with api.refused("INVALID_ARGUMENT"):
            getattr(api.controller, method)(sandbox_id="box")
        with api.refused("NOT_FOUND"):
            getattr(api.within("elsewhere").controller, method)(sandbox_id="box", sandboxer="shim")
    # stopping what is not there is fine
    api.controller.Stop(sandbox_id="none", sandboxer="shim")
    elsewhere = api.within("elsewhere").controller
    elsewhere.Stop(sandbox_id="box", sandboxer="shim")
    with api.refused("NOT_FOUND"):
        elsewhere.Update(sandbox_id="box", sandboxer="shim", sandbox=record(), fields=["labels"])
    elsewhere.Create(sandbox_id="box", sandbox=record(), sandboxer="shim")
    elsewhere.Shutdown(sandbox_id="box", sandboxer="shim")
    assert api.controller.Status(sandbox_id="box", sandboxer="shim").state == "SANDBOX_READY"
    with api.refused("NOT_FOUND"):
        api.controller.Update(sandbox_id="none", sandboxer="shim", sandbox=record("none"))
    with api.refused("INVALID_ARGUMENT"):
        api.controller.Update(sandbox_id="box", sandboxer="shim")
    with api.refused("INVALID_ARGUMENT"):
        api.controller.Create(sandbox_id="../up", sandboxer="shim")
    with api.refused("NOT_FOUND", "not on PATH"):
        strange = record("strange", runtime={"name": "io.containerd.strange.v9"})
        api.controller.Create(sandbox_id="strange", sandbox=strange, sandboxer="shim")
    with api.refused("FAILED_PRECONDITION", "namespace"):
        api.within(None).controller.Status(sandbox_id="box", sandboxer="shim")
    end(api)


def test_a_sandbox_outlives_the_daemon(api: Client, running: Daemon) -> None:
    started = begin(api)
    running.kill()
    running.start()
    with Client(running.address, api.namespace) as again:
        status = again.controller.Status(sandbox_id="box", sandboxer="shim")
        assert (status.state, status.pid) == ("SANDBOX_READY", started.pid)
        with telling(again, "/sandboxes/exit"):
            again.controller.Stop(sandbox_id="box", sandboxer="shim")
        end(again)


def test_the_death_of_its_shim_is_the_sandboxs_end(api: Client) -> None:
    started = begin(api)
    with telling(api, "/sandboxes/exit"):
        os.kill(started.pid, signal.SIGKILL)
        assert api.controller.Wait(sandbox_id="box", sandboxer="shim").exit_status == 137
    assert api.controller.Status(sandbox_id="box", sandboxer="shim").state == "SANDBOX_NOTREADY"
    end(api)
