"""Real mounts: all or none, below a root that links cannot leave, and longer than a page."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cored import linux
from cored.abc.values import Mount
from cored.linux import mount_all, mounted, opened_below, unmount, unmount_all

pytestmark = pytest.mark.root


def mount_points(below: Path) -> list[str]:
    with open("/proc/self/mountinfo") as table:
        found = [line.split()[4] for line in table]
    return [point for point in found if point == str(below) or point.startswith(f"{below}/")]


def options_at(point: Path) -> tuple[set[str], list[str]]:
    """The options of the topmost mount at a point, and its propagation."""
    fields: list[str] = []
    with open("/proc/self/mountinfo") as table:
        for line in table:
            if line.split()[4] == str(point):
                fields = line.split()
    return set(fields[5].split(",")), fields[6 : fields.index("-")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("source", "other", "root/sub/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "source/file").write_text("source")
    (tmp_path / "other/file").write_text("other")
    return tmp_path


def bind(source: Path, target: str = "", *options: str) -> Mount:
    return Mount("bind", str(source), target, ("rbind", *options))


@pytest.mark.parametrize("target", ["", "sub", "/sub/deep"])
def test_a_bind_takes_its_flags_and_propagation(tree: Path, target: str) -> None:
    root = tree / "root"
    place = root / target.strip("/")
    mount_all([bind(tree / "source", target, "ro", "nosuid", "noexec", "rshared")], root)
    try:
        options, propagation = options_at(place)
        assert {"ro", "nosuid", "noexec"} <= options
        assert propagation[0].startswith("shared:")
        assert (place / "file").read_text() == "source"
        with pytest.raises(OSError, match="Read-only"):
            (place / "new").write_text("")
        (tree / "source/new").write_text("")  # the source itself is as it was
    finally:
        unmount(place)
    assert mount_points(tree) == []


def test_mounts_are_made_in_order_one_in_another(tree: Path) -> None:
    (tree / "source/inside").mkdir()
    with mounted([bind(tree / "source"), bind(tree / "other", "inside", "ro")], tree) as place:
        assert (place / "file").read_text() == "source"
        assert (place / "inside/file").read_text() == "other"
    assert mount_points(tree) == []
    assert not place.exists()


def test_a_filesystem_takes_its_data(tree: Path) -> None:
    mounts = [Mount("tmpfs", "tmpfs", options=("noexec", "size=1m", "mode=0751"))]
    with mounted(mounts, tree) as place:
        assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize == 1 << 20
        assert place.stat().st_mode & 0o7777 == 0o751
        assert "noexec" in options_at(place)[0]


@pytest.mark.parametrize("target", ["missing", "sub/deep/missing"])
def test_when_one_fails_none_stays(tree: Path, target: str) -> None:
    root = tree / "root"
    mounts = [bind(root), bind(tree / "other", "sub"), bind(tree / "source", target)]
    with pytest.raises(FileNotFoundError):
        mount_all(mounts, root)
    assert mount_points(tree) == []


LOCKED = """
import sys
from cored.abc.values import Mount
from cored.linux import mount_all

source, root, target = sys.argv[1:]
try:
    mount_all([Mount("bind", source, target, ("rbind", "ro"))], root)
    print("mounted")
except PermissionError:
    print("refused")
print([line.split()[4] for line in open("/proc/self/mountinfo") if root in line.split()[4]])
"""


@pytest.mark.parametrize("target", ["", "sub"])
def test_a_mount_whose_second_step_fails_is_undone(tree: Path, target: str) -> None:
    """In a user namespace the flags of the parent's mounts are locked: ro alone would drop some."""
    linux.mount("tmpfs", tree / "source", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV)
    try:
        unshare = ("unshare", "--user", "--map-root-user", "--mount")
        arguments = (str(tree / "source"), str(tree / "root"), target)
        done = subprocess.run(
            [*unshare, sys.executable, "-c", LOCKED, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        unmount(tree / "source")
    assert done.stdout.splitlines() == ["refused", "[]"]


def test_links_cannot_lead_out_of_the_root(tree: Path) -> None:
    root = tree / "root"
    (tree / "outside").mkdir()
    (root / "outside").mkdir()
    (root / "absolute").symlink_to("/outside")
    (root / "upwards").symlink_to("../../../../outside")
    (root / "magic").symlink_to(f"/proc/{os.getpid()}/root")
    for target in ("absolute", "upwards", "../outside", "sub/../../../outside"):
        mount_all([bind(tree / "source", target)], root)
        try:
            assert mount_points(tree) == [str(root / "outside")]
        finally:
            unmount(root / "outside")
    with pytest.raises(FileNotFoundError):  # there is no /proc in this root
        mount_all([bind(tree / "source", "magic")], root)
    assert mount_points(tree) == []


def test_magic_links_are_not_followed(tree: Path) -> None:
    root = tree / "root"
    (root / "proc").mkdir()
    linux.mount("proc", root / "proc", "proc")
    try:
        with pytest.raises(OSError) as caught:
            with opened_below(str(root), f"proc/{os.getpid()}/cwd"):
                pass
        assert caught.value.errno == errno.ELOOP
    finally:
        unmount(root / "proc")


def test_unmounting_what_is_no_mount(tree: Path) -> None:
    with pytest.raises(OSError) as caught:
        unmount(tree / "root")
    assert caught.value.errno == errno.EINVAL
    unmount_all(tree / "root")
    unmount_all(tree / "missing")


def test_all_that_is_stacked_is_unmounted(tree: Path) -> None:
    for name in ("source", "other", "source"):
        mount_all([bind(tree / name)], tree / "root")
    assert len(mount_points(tree)) == 3
    unmount_all(tree / "root")
    assert mount_points(tree) == []


def test_unmount_does_not_follow_a_link(tree: Path) -> None:
    (tree / "link").symlink_to(tree / "root")
    mount_all([bind(tree / "source")], tree / "root")
    try:
        with pytest.raises(OSError):
            unmount(tree / "link")
        assert len(mount_points(tree)) == 1
    finally:
        unmount(tree / "root")


def test_a_busy_mount_goes_when_it_can(tree: Path) -> None:
    with mounted([bind(tree / "source")], tree) as place:
        file = (place / "file").open()
    assert mount_points(tree) == []
    assert file.read() == "source"
    file.close()


@pytest.mark.parametrize(("layers", "width"), [(128, 20), (128, 60), (300, 40)])
def test_an_overlay_of_many_layers_with_long_names(
    short_tmp: Path, layers: int, width: int
) -> None:
    """Far more than the page of options that mount(2) takes."""
    lower = []
    for number in range(layers):
        lower.append(short_tmp / f"{'x' * width}-{number}" / "fs")
        lower[-1].mkdir(parents=True)
        (lower[-1] / f"file-{number}").touch()
        (lower[-1] / "same").write_text(str(number))
    for name in ("upper", "work", "root"):
        (short_tmp / name).mkdir()
    before = Path.cwd()
    options = (
        f"workdir={short_tmp}/work",
        f"upperdir={short_tmp}/upper",
        "lowerdir=" + ":".join(map(str, lower)),
        "nodev",
    )
    try:
        mount_all([Mount("overlay", "overlay", options=options)], short_tmp / "root")
    except OSError as error:
        if error.errno == errno.EINVAL and layers * width > 4096:
            pytest.skip("this kernel takes lower directories only in one option (before 6.7)")
        raise
    try:
        root = short_tmp / "root"
        assert len(list(root.iterdir())) == layers + 1
        assert (root / "same").read_text() == "0"
        assert "nodev" in options_at(root)[0]
        (root / "new").write_text("new")
        assert (short_tmp / "upper/new").read_text() == "new"
        assert Path.cwd() == before
    finally:
        unmount(short_tmp / "root")


def test_other_filesystems_may_not_have_long_options(tree: Path) -> None:
    entry = Mount("tmpfs", "tmpfs", options=("mpol=" + "x" * 5000,))
    with pytest.raises(OSError) as caught:
        mount_all([entry], tree / "root")
    assert caught.value.errno == errno.E2BIG
