"""Which runtime a container gets, and what is said of one that cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cored_runtime_shim.choice import Runtimes
from cored_runtime_shim.host import Host
from cored_runtime_shim.oci import OciRuntime, kind_of
from cored_runtime_shim.settings import settings

from cored._pb.containerd.runc.v1 import oci_pb2
from cored._pb.runtimeoptions.v1 import api_pb2
from cored.abc.values import Typed
from cored.errors import FailedPrecondition, InvalidArgument, NotFound

V2 = Host("v2")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH; :func:`program` fills it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(place: Path, name: str, version: str) -> Path:
    path = place / name
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)
    return path


def options(message: Any) -> Typed:
    return Typed(message.DESCRIPTOR.full_name, message.SerializeToString())


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"runtme": "runc"}, "unknown key 'plugins.runtime.shim.runtme'"),
        ({"runtime": 3}, "runtime must be a string"),
        ({"runtimes": []}, "must be a table of tables"),
        ({"runtimes": {"a": {"pth": ""}}}, "unknown key 'plugins.runtime.shim.runtimes.a.pth'"),
        ({"runtimes": {"a": {"options": "--x"}}}, "options must be a list of strings"),
        ({"runtimes": {"a": {"options": [1]}}}, "options must be a list of strings"),
        ({"runtimes": {"a": {"systemd_cgroup": "yes"}}}, "must be true or false"),
        ({"runtimes": {"a": {"kind": "lxc"}}}, "one of runc, crun, youki, runsc"),
        ({"runtimes": {"a": {"root": "here"}}}, "must be an absolute path"),
        ({"runtimes": {"a": {"shim": "/s", "path": "/p"}}}, "has a shim, and settings of an OCI"),
        ({"runtimes": {"a b": {}}}, "is no name for a runtime"),
        ({"runtimes": {"a": 1}}, "runtimes.a must be a table"),
        ({"idle": 0}, "idle must be a number of seconds"),
        ({"idle": True}, "idle must be a number of seconds"),
    ],
)
def test_wrong_settings_are_named(table: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        settings(table)
    assert says in str(raised.value)


async def test_the_first_that_works_is_the_usual_one(place: Path) -> None:
    program(place, "crun", "crun version 1.8.1")
    program(place, "runc", "runc version 1.1.5")
    hybrid = Host("hybrid", unified=("hugetlb",))
    assert (await Runtimes(settings({}), V2).usual()).name == "crun"
    assert (await Runtimes(settings({}), hybrid).usual()).name == "runc"
    (place / "runc").unlink()
    with pytest.raises(FailedPrecondition, match=r"there is crun .it refuses hybrid.*hugetlb"):
        await Runtimes(settings({}), hybrid).usual()
    assert (await Runtimes(settings({"runtime": "crun"}), hybrid).usual()).name == "crun"


async def test_what_cannot_work_is_refused_before_it_is_tried(place: Path) -> None:
    program(place, "crun", "crun version 1.8.1")
    hybrid = Runtimes(settings({}), Host("hybrid", unified=("hugetlb",)))
    with pytest.raises(FailedPrecondition, match="cannot work here: it refuses hybrid"):
        await hybrid.choose("crun", None, b"{}")
    with pytest.raises(FailedPrecondition, match=r"takes no spec of version 1\.2"):
        await Runtimes(settings({}), V2).choose("crun", None, b'{"ociVersion": "1.2.0"}')


async def test_a_new_spec_goes_to_runc_where_crun_is_old(place: Path) -> None:
    program(place, "crun", "crun version 1.8.1")
    program(place, "runc", "runc version 1.1.5")
    runtimes = Runtimes(settings({}), V2)
    for version, name in (("1.1.0", "crun"), ("1.2.0", "runc")):
        chosen = (await runtimes.choose("", None, f'{{"ociVersion":"{version}"}}'.encode())).oci
        assert chosen is not None
        assert chosen.name == name


async def test_a_table_gives_a_name_its_runtime(place: Path) -> None:
    program(place, "runsc", "runsc version release-20250101.0")
    table = {
        "safe": {"path": "runsc", "options": ["--platform=kvm"], "root": "/run/safe"},
        "io.containerd.runc.v2": {"shim": str(program(place, "stranger", ""))},
        "gone": {"path": "/opt/gone"},
    }
    runtimes = Runtimes(settings({"runtimes": table}), Host("v2", kvm=True))
    safe = (await runtimes.choose("safe", None)).oci
    assert safe == OciRuntime(
        str(place / "runsc"), "runsc version release-20250101.0\n", "safe", "", "/run/safe",
        ("--platform=kvm",),
    )  # fmt: skip
    assert (await runtimes.choose("io.containerd.runc.v2", None)).shim == f"{place}/stranger"
    with pytest.raises(FailedPrecondition, match="'/opt/gone': not found on this host"):
        await runtimes.choose("gone", None)


async def test_names_and_paths_of_runtimes_are_understood(place: Path) -> None:
    crun = program(place, "crun", "crun version 1.20")
    program(place, "runsc", "runsc version release-20250101.0")
    shim = program(place, "containerd-shim-kata-v2", "")
    runtimes = Runtimes(settings({}), V2)
    for name in ("crun", str(crun), "io.containerd.crun.v1"):
        assert (await runtimes.choose(name, None)).oci is not None
    for name in ("kata", "io.containerd.kata.v2", str(shim)):
        assert (await runtimes.choose(name, None)).shim == str(shim)
    # without gVisor's own shim, ours drives its runsc
    found = (await runtimes.choose("io.containerd.runsc.v1", None)).oci
    assert found is not None
    assert found.program == "runsc"
    program(place, "containerd-shim-runsc-v1", "")
    assert (await runtimes.choose("io.containerd.runsc.v1", None)).oci is None
    with pytest.raises(NotFound, match="there are crun, kata, runc, runsc, youki, and paths"):
        await runtimes.choose("nobody", None)
    with pytest.raises(NotFound, match="containerd-shim-wasm-v1 is not on PATH"):
        await runtimes.choose("io.containerd.wasm.v1", None)


async def test_runcs_options_are_honoured(place: Path) -> None:
    program(place, "runc", "runc version 1.1.5")
    crun = program(place, "crun", "crun version 1.20")
    table = {"runtime": "runc"}
    runtimes = Runtimes(settings(table), Host("v2", systemd=True))
    asked = options(oci_pb2.Options(binary_name="crun", root="/r", systemd_cgroup=True))
    found = (await runtimes.choose("io.containerd.runc.v2", asked)).oci
    assert found is not None
    assert (found.path, found.root, found.systemd_cgroup) == (str(crun), "/r", True)
    found = (await runtimes.choose("", options(oci_pb2.Options(root="/r")))).oci
    assert found is not None
    assert (found.name, found.root, found.known) == ("runc", "/r", True)
    found = (await runtimes.choose("", options(oci_pb2.Options()))).oci
    assert found is not None
    assert (found.name, found.root) == ("runc", "")
    with pytest.raises(InvalidArgument, match="are damaged"):
        await runtimes.choose("", Typed("containerd.runc.v1.Options", b"\xff"))


async def test_gvisors_options_are_honoured(place: Path) -> None:
    program(place, "runsc", "runsc version release-20250101.0")
    runtimes = Runtimes(settings({}), V2)
    text = b'root = "/g"\n[runsc_config]\nplatform = "ptrace"\nnetwork = "host"\n'
    file = place / "runsc.toml"
    file.write_bytes(text)
    for asked in (api_pb2.Options(config_path=str(file)), api_pb2.Options(config_body=text)):
        found = (await runtimes.choose("io.containerd.runsc.v1", options(asked))).oci
        assert found is not None
        assert (found.root, found.options) == ("/g", ("--platform=ptrace", "--network=host"))
    for bad in (api_pb2.Options(config_path="/no/where"), api_pb2.Options(config_body=b"=")):
        with pytest.raises(InvalidArgument):
            await runtimes.choose("io.containerd.runsc.v1", options(bad))


@pytest.mark.parametrize(
    ("runtime", "host", "says"),
    [
        (OciRuntime("/bin/sh", "runc version 1.1.5", kind="runc"), V2, ""),
        (OciRuntime("/no/where", "x"), V2, "not an executable"),
        (OciRuntime("/bin/sh", ""), V2, "--version fails"),
        (OciRuntime("/bin/sh", "x", systemd_cgroup=True), V2, "systemd does not run"),
        (OciRuntime("/bin/sh", "x", kind="crun"), Host("hybrid", ("pids",)), "hybrid"),
        (OciRuntime("/bin/sh", "x", kind="crun"), Host("hybrid"), ""),
        (OciRuntime("/bin/sh", "x", kind="crun"), Host("v1"), ""),
        (OciRuntime("/bin/sh", "runc version 1.0.0-rc5", kind="runc"), V2, "know cgroup v2"),
        (OciRuntime("/bin/sh", "x", kind="runsc"), Host("v2", ptrace=False), "no /dev/kvm either"),
        (
            OciRuntime("/bin/sh", "x", kind="runsc"),
            Host("v2", ptrace=False, kvm=True),
            "--platform=kvm would work",
        ),
        (OciRuntime("/bin/sh", "x", kind="runsc", options=("-platform=kvm",)), V2, "/dev/kvm"),
        (OciRuntime("/bin/sh", "0.0~20221219.0", kind="runsc"), Host("v2", kernel=(6, 10)), ""),
        (
            OciRuntime("/bin/sh", "0.0~20221219.0", kind="runsc"),
            Host("v2", kernel=(6, 11)),
            "--network=none or --network=host",
        ),
        (
            OciRuntime("/bin/sh", "0.0~20221219.0", kind="runsc", options=("--network=none",)),
            Host("v2", kernel=(6, 18)),
            "",
        ),
        (OciRuntime("/bin/sh", "20250101.0", kind="runsc"), Host("v2", kernel=(6, 18)), ""),
    ],
)
def test_what_keeps_a_runtime_from_working_is_said(
    runtime: OciRuntime, host: Host, says: str
) -> None:
    problem = runtime.problem(host)
    assert says in problem if says else problem == ""


@pytest.mark.parametrize("layout", ["v2", "hybrid", "v1"])
def test_a_host_is_known_by_its_files(tmp_path: Path, layout: str) -> None:
    for name in ("sys/fs/cgroup/unified", "proc/sys/kernel/yama", "run/systemd/system"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.12.3-amd64\n")
    (tmp_path / "proc/sys/kernel/yama/ptrace_scope").write_text("3\n")
    if layout == "v2":
        (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory\n")
    elif layout == "hybrid":
        (tmp_path / "sys/fs/cgroup/unified/cgroup.controllers").write_text("hugetlb misc\n")
    unified = ("hugetlb", "misc") if layout == "hybrid" else ()
    assert Host.here(tmp_path) == Host(
        layout,  # type: ignore[arg-type]
        unified, (6, 12), kvm=False, ptrace=False, systemd=True,
    )  # fmt: skip


def test_kinds_are_told_by_names() -> None:
    names = ("/usr/bin/crun", "/opt/runsc-2025", "/usr/sbin/runc", "/usr/bin/youki", "/opt/mine")
    assert [kind_of(name) for name in names] == ["crun", "runsc", "runc", "youki", "runc"]
