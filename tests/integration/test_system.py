"""The whole of a daemon: info, df, prune, namespaces, and events that outlive it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemons, images
from tests.daemons import Daemon
from tests.patience import eventually

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def own(busybox: Path, private_mounts: None) -> Iterator[Daemon]:
    """A daemon that nobody else puts anything into."""
    with daemons.cored() as running:
        running.ctr("images", "import", str(busybox))
        yield running


def said(daemon: Daemon, *arguments: str | Path) -> str:
    return daemon.corectl(*map(str, arguments), check=True).stdout.decode()


def rows(text: str) -> dict[str, list[str]]:
    """Cells of a table by the first one."""
    cells = [
        [cell.strip() for cell in line.split("   ") if cell.strip()] for line in text.splitlines()
    ]
    return {line[0]: line[1:] for line in cells if line}


def test_info_has_dockers_words_and_names(own: Daemon) -> None:
    said(own, "create", "--name", "made", "busybox")
    text = said(own, "info")
    lines = [line.strip() for line in text.splitlines()]
    for line in ("Containers: 1", "Stopped: 1", "Storage Driver: overlayfs", "Images: 1"):
        assert line in lines
    assert said(own, "info", "-f", "{{.Containers}} {{.Driver}} {{.OSType}}") == (
        "1 overlayfs linux\n"
    )
    assert json.loads(said(own, "system", "info", "--format", "json"))["NCPU"] > 0
    said(own, "rm", "made")


def test_df_counts_what_there_is_and_prune_takes_what_nobody_uses(
    own: Daemon, tmp_path: Path
) -> None:
    other = images.make([images.layer({"file": b"x" * 100_000})])
    archive = images.write_layout(other, tmp_path / "other.tar", "docker.io/library/other:1")
    said(own, "load", "-i", archive)
    said(own, "run", "-d", "--name", "lives", "-v", "used:/v", "busybox", "sleep", "1000")
    script = "dd if=/dev/zero of=/data bs=1k count=300; dd if=/dev/zero of=/v/f bs=1k count=200"
    said(own, "run", "--name", "ended", "-v", "/v", "-l", "keep=me", "busybox", "sh", "-c", script)
    said(own, "network", "create", "unused")
    table = rows(said(own, "system", "df"))
    assert table["TYPE"] == ["TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert table["Images"][:2] == ["2", "1"]
    assert table["Containers"][:2] == ["2", "1"]
    assert table["Local Volumes"][:2] == ["2", "2"]
    assert table["Build Cache"] == ["0", "0", "0B", "0B"]
    records = [
        json.loads(line) for line in said(own, "system", "df", "--format", "json").split("\n")[:-1]
    ]
    assert [one["Type"] for one in records] == [
        "Images",
        "Containers",
        "Local Volumes",
        "Build Cache",
    ]
    whole = said(own, "system", "df", "-v")
    assert "Images space usage:" in whole
    assert rows(whole)["used"][0] == "1"
    assert "SHARED SIZE" in whole
    refused = own.corectl("system", "prune", "--volumes", "--filter", "until=1h")
    assert b'the "until" filter is not for --volumes' in refused.stderr
    assert own.corectl("system", "prune", stdin=-3).returncode != 0
    filtered = said(own, "system", "prune", "-f", "--filter", "label!=keep")
    assert "Deleted Containers" not in filtered
    # of the anonymous volume somebody still makes use: the container that has ended
    done = said(own, "system", "prune", "-f", "--volumes")
    assert "Deleted Containers:" in done
    assert "Deleted Networks:\nunused\n" in done
    assert "Deleted Volumes:" in done
    assert "Deleted Images:" not in done
    assert "Total reclaimed space: 0B" not in done
    done = said(own, "system", "prune", "-af")
    assert "Deleted Images:\nuntagged: other:1\n" in done
    assert rows(said(own, "system", "df"))["Images"][:2] == ["1", "1"]
    assert said(own, "ps", "-q", "--no-trunc").count("\n") == 1
    said(own, "rm", "-f", "lives")
    said(own, "volume", "rm", "used")


def test_events_of_earlier_daemons_are_told(own: Daemon) -> None:
    said(own, "run", "--name", "before", "busybox", "true")
    own.stop()
    own.start()
    id = said(own, "run", "-d", "--name", "after", "busybox", "sleep", "2").strip()
    own.kill()
    # its end comes while nobody is there
    eventually((own.home / "state/runtime.shim/default" / id / "exit.json").exists)
    own.start()
    eventually(lambda: "Exited" in said(own, "ps", "-a", "--filter", "name=after"))
    template = "{{.Action}} {{.Actor.Attributes.name}}"
    told = said(
        own, "system", "events", "--since", "10m", "--until", "0s", "--filter", "type=container",
        "--filter", "event=create", "--filter", "event=start", "--filter", "event=die",
        "--format", template,
    ).splitlines()  # fmt: skip
    expected = [f"{a} {name}" for name in ("before", "after") for a in ("create", "start", "die")]
    assert told[-6:] == expected
    said(own, "rm", "before", "after")


def test_namespaces_have_labels_and_lives(own: Daemon) -> None:
    assert said(own, "namespace", "create", "-l", "team=red", "apart") == "apart\n"
    assert rows(said(own, "namespace", "ls"))["apart"] == ["team=red"]
    said(own, "namespace", "label", "apart", "team=blue", "tier=1")
    said(own, "namespace", "label", "apart", "tier=")
    (found,) = json.loads(said(own, "namespace", "inspect", "apart"))
    assert found == {"Name": "apart", "Labels": {"team": "blue"}}
    assert b"not found" in own.corectl("namespace", "inspect", "nowhere").stderr
    said(own, "-n", "apart", "volume", "create", "v")
    assert said(own, "-n", "apart", "volume", "ls", "-q") == "v\n"
    assert said(own, "volume", "ls", "-q") == ""
    assert b"already exists" in own.corectl("namespace", "create", "apart").stderr
    said(own, "-n", "apart", "volume", "rm", "v")
    assert said(own, "namespace", "rm", "apart") == "apart\n"
    assert "apart" not in said(own, "namespace", "ls", "-q")
    assert own.corectl("namespace", "rm", "apart").returncode == 1
