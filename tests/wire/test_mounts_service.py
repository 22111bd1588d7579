"""containerd's Mounts service with a plain client: chains of mounts that the daemon makes ready."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon, cored
from tests.grpc_client import Client

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def running(private_mounts: None) -> Iterator[Daemon]:
    with cored("[gc]\nschedule_delay = 0.01\n") as daemon:
        yield daemon


@pytest.fixture
def api(running: Daemon, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(running.address, request.node.name[:60]) as api:
        api.leases.Create(id="test")
        yield api.within(api.namespace, "test")
        for found in api.mounts.List():
            api.mounts.Deactivate(name=found.info.name)
        assert list((running.home / "state/mounts").iterdir()) == []


def mounted(place: str, daemon: Daemon) -> bool:
    """Whether the daemon sees a mount there: it may have a mount namespace of its own."""
    assert daemon.process is not None
    lines = Path(f"/proc/{daemon.process.pid}/mounts").read_text().splitlines()
    return any(line.split()[1] == place for line in lines)


def a_tree(tmp_path: Path, name: str) -> dict[str, object]:
    (tmp_path / name).mkdir()
    (tmp_path / name / name).write_text(name)
    return {"type": "bind", "source": str(tmp_path / name), "options": ["rbind", "ro"]}


def test_what_mount_can_do_alone_is_left_to_the_caller(api: Client, tmp_path: Path) -> None:
    with api.refused("UNIMPLEMENTED"):
        api.mounts.Activate(name="plain", mounts=[a_tree(tmp_path, "a")])
    with api.refused("NOT_FOUND"):
        api.mounts.Info(name="plain")


def test_a_temporary_chain_is_mounted_and_one_bind_is_left(
    api: Client, running: Daemon, tmp_path: Path
) -> None:
    info = api.mounts.Activate(
        name="tmp", mounts=[a_tree(tmp_path, "a")], labels={"x": "1"}, temporary=True
    ).info
    (active,) = info.active
    assert mounted(active.mount_point, running)
    assert (info.system[0].type, info.system[0].source) == ("bind", active.mount_point)
    assert Path(active.mount_point, "a").read_text() == "a"
    assert api.mounts.Info(name="tmp").info == info
    with api.refused("ALREADY_EXISTS"):
        api.mounts.Activate(name="tmp", mounts=[active.mount], temporary=True)
    api.mounts.Deactivate(name="tmp")
    assert not mounted(active.mount_point, running)
    with api.refused("NOT_FOUND"):
        api.mounts.Deactivate(name="tmp")


def test_formats_name_the_mounts_before(api: Client, running: Daemon, tmp_path: Path) -> None:
    upper = running.home / "root/upper-test"
    options = [
        "lowerdir={{ overlay 1 0 }}",
        f"upperdir={upper}/fs",
        f"workdir={upper}/work",
        f"X-containerd.mkdir.path={upper}",
        f"X-containerd.mkdir.path={upper}/fs:755",
        f"X-containerd.mkdir.path={upper}/work:711:0:0",
    ]
    info = api.mounts.Activate(
        name="overlay",
        mounts=[
            a_tree(tmp_path, "a"),
            a_tree(tmp_path, "b"),
            {"type": "format/mkdir/overlay", "source": "overlay", "options": options},
        ],
    ).info
    points = [active.mount_point for active in info.active]
    assert len(points) == 2
    (left,) = info.system
    assert left.type == "overlay"
    assert list(left.options) == [
        f"lowerdir={points[1]}:{points[0]}",
        f"upperdir={upper}/fs",
        f"workdir={upper}/work",
    ]
    assert (upper / "work").stat().st_mode & 0o777 == 0o711


def test_an_image_file_is_made_attached_and_mounted(
    api: Client, running: Daemon, tmp_path: Path
) -> None:
    image = running.home / "root/disk.img"
    if not os.access("/dev/loop-control", os.R_OK):
        pytest.skip("this kernel has no loop devices")
    info = api.mounts.Activate(
        name="disk",
        mounts=[
            {
                "type": "mkfs/loop",
                "source": str(image),
                "options": ["X-containerd.mkfs.size=8MiB", "X-containerd.mkfs.fs=ext4"],
            },
            {"type": "format/ext4", "source": "{{ mount 0 }}"},
        ],
        temporary=True,
    ).info
    assert [active.mount.type for active in info.active] == ["loop", "ext4"]
    device = info.active[0].data["device"]
    assert device.startswith("/dev/loop")
    assert mounted(info.active[1].mount_point, running)
    assert image.stat().st_size == 8 << 20
    api.mounts.Deactivate(name="disk")
    backing = Path("/sys/block") / Path(device).name / "loop/backing_file"
    assert not backing.exists() or backing.read_text().strip() != str(image)
    image.unlink()


@pytest.mark.parametrize(
    ("mount", "code"),
    [
        ({"type": "format/bind", "source": "{{ mount 5 }}"}, "INVALID_ARGUMENT"),
        ({"type": "format/bind", "source": "{{ exec 0 }}"}, "INVALID_ARGUMENT"),
        ({"type": "format/bind", "source": "{{ broken"}, "INVALID_ARGUMENT"),
        (
            {"type": "mkdir/bind", "source": "/", "options": ["X-containerd.mkdir.path=/etc/x"]},
            "PERMISSION_DENIED",
        ),
        (
            {"type": "mkdir/bind", "source": "/", "options": ["X-containerd.mkdir.mode=7"]},
            "INVALID_ARGUMENT",
        ),
        ({"type": "mkfs/loop", "source": "/etc/passwd"}, "PERMISSION_DENIED"),
        ({"type": "loop", "source": "/no/such/file"}, "NOT_FOUND"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    running: Daemon, mount: dict[str, object], code: str
) -> None:
    with Client(running.address, "refused") as api:
        with api.refused(code):
            api.mounts.Activate(name="bad", mounts=[mount], temporary=True)
        with api.refused("NOT_FOUND"):
            api.mounts.Info(name="bad")
    assert list((running.home / "state/mounts").iterdir()) == []


def test_labels_change_and_lists_are_filtered(api: Client, tmp_path: Path) -> None:
    for name in ("one", "two"):
        api.mounts.Activate(name=name, mounts=[a_tree(tmp_path, name)], temporary=True)
    api.mounts.Update(
        info={"name": "one", "labels": {"a.b": "1"}}, update_mask={"paths": ["labels.a.b"]}
    )

    def names(*filters: str) -> list[str]:
        return [found.info.name for found in api.mounts.List(filters=filters)]

    assert names() == ["one", "two"]
    assert names('labels."a.b"==1') == ["one"]
    assert names("name==two") == ["two"]
    elsewhere = api.within("elsewhere")
    assert list(elsewhere.mounts.List()) == []
    for call in (
        lambda: elsewhere.mounts.Info(name="one"),
        lambda: elsewhere.mounts.Update(info={"name": "one"}),
        lambda: elsewhere.mounts.Deactivate(name="one"),
    ):
        with api.refused("NOT_FOUND"):
            call()
    elsewhere.mounts.Activate(name="one", mounts=[a_tree(tmp_path, "three")], temporary=True)
    elsewhere.mounts.Deactivate(name="one")
    assert names() == ["one", "two"]
    with api.refused("INVALID_ARGUMENT"):
        api.mounts.Update(info={"name": "one"}, update_mask={"paths": ["active"]})
    with api.refused("INVALID_ARGUMENT"):
        names("==")
    with api.refused("NOT_FOUND"):
        api.mounts.Update(info={"name": "none"})
    with api.refused("FAILED_PRECONDITION", "namespace"):
        api.within(None).mounts.Info(name="one")


def test_mounts_go_with_their_lease_and_outlive_the_daemon(running: Daemon, tmp_path: Path) -> None:
    with Client(running.address, "leased") as api:
        api.leases.Create(id="brief")
        brief = api.within("leased", "brief")
        info = brief.mounts.Activate(name="m", mounts=[a_tree(tmp_path, "a")], temporary=True).info
    running.kill()
    running.start()
    with Client(running.address, "leased") as api:
        assert api.mounts.Info(name="m").info.active[0] == info.active[0]
        api.leases.Delete(id="brief", sync=True)
        with api.refused("NOT_FOUND"):
            api.mounts.Info(name="m")
    assert list((running.home / "state/mounts").iterdir()) == []
