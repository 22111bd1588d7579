"""Log drivers under real containers: what arrives, what is kept, with and without a daemon."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import daemons
from tests.daemons import Daemon
from tests.logservices import Journal, journal, server
from tests.patience import eventually

pytestmark = pytest.mark.root
# shims sleep between any two lines
CONFIG = """
[logging]
driver = "local"
options = {{ "max-file" = "300", labels = "team" }}
journal = "{journal}"
[plugins.runtime.shim]
idle = 0.05
"""
SLOW = "for n in 1 2 3 4 5 6; do echo $n; sleep 0.3; done; sleep 1000"


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    with daemons.home("jd") as place, journal(place / "socket") as running:
        running.path = place / "socket"  # type: ignore[attr-defined]
        yield running


@pytest.fixture(scope="module")
def daemon(busybox: Path, private_mounts: None, entries: Any) -> Iterator[Daemon]:
    with daemons.cored(CONFIG.format(journal=entries.path)) as running:
        running.ctr("images", "import", str(busybox))
        yield running


def said(daemon: Daemon, *arguments: str) -> str:
    return daemon.corectl(*arguments, check=True).stdout.decode()


def of(entries: Journal, name: str) -> list[dict[str, bytes]]:
    return [one for one in entries.entries if one.get("CONTAINER_NAME") == name.encode()]


def test_the_journal_gets_every_line_while_no_daemon_is_there(
    daemon: Daemon, entries: Journal
) -> None:
    words = ["run", "-d", "--name", "kept", "--log-driver", "journald", "-l", "team=red"]
    more = ["--log-opt", "tag={{.Name}}/{{.ImageName}}", "--log-opt", "labels=team"]
    id = said(daemon, *words, *more, "-e", "X=1", "busybox", "sh", "-c", SLOW).strip()
    eventually(lambda: len(of(entries, "kept")) >= 2)
    daemon.kill()
    eventually(lambda: len(of(entries, "kept")) == 6)
    daemon.start()
    assert [one["MESSAGE"] for one in of(entries, "kept")] == [b"%d" % n for n in range(1, 7)]
    assert of(entries, "kept")[-1] == {
        "CONTAINER_ID": id[:12].encode(), "CONTAINER_ID_FULL": id.encode(),
        "CONTAINER_NAME": b"kept", "CONTAINER_TAG": b"kept/busybox", "IMAGE_NAME": b"busybox",
        "SYSLOG_IDENTIFIER": b"kept/busybox", "TEAM": b"red", "TAG": b"kept/busybox",
        "PRIORITY": b"6", "MESSAGE": b"6",
    }  # fmt: skip
    # docker's dual logging
    assert said(daemon, "logs", "kept") == "1\n2\n3\n4\n5\n6\n"
    assert said(daemon, "logs", "--details", "-n", "1", "kept") == "tag=kept/busybox,team=red 6\n"
    said(daemon, "rm", "-f", "kept")


def test_a_syslog_server_gets_both_streams_and_logs_say_where_they_are(daemon: Daemon) -> None:
    with server("tcp") as there:
        address = f"tcp://127.0.0.1:{there.port}"
        words = ["run", "--name", "sent", "--log-driver", "syslog", "--log-opt"]
        more = [f"syslog-address={address}", "--log-opt", "syslog-facility=local1"]
        more += ["--log-opt", "cache-disabled=true", "--log-opt", "syslog-format=rfc5424"]
        command = ["busybox", "sh", "-c", "echo out; sleep 0.5; echo err >&2"]
        done = daemon.corectl(*words, *more, *command)
        assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
        eventually(lambda: len(there.lines) == 2)
        assert sorted(line[:6] for line in there.lines) == ["<139>1", "<142>1"]
        refused = daemon.corectl("logs", "sent")
        assert refused.returncode == 1
        assert f"its log driver syslog sends it to {address} and cache-disabled" in (
            refused.stderr.decode()
        )
        said(daemon, "rm", "sent")
    failed = daemon.corectl(*words, *more[:1], "busybox", "true")
    assert failed.returncode == 125
    assert f"log driver syslog: {address}: Connection refused" in failed.stderr.decode()


def test_local_is_what_the_configuration_says_compact_and_whole(daemon: Daemon) -> None:
    words = ["run", "-d", "--name", "here", "-l", "team=blue", "--log-opt", "max-size=20k"]
    said(daemon, *words, "busybox", "sh", "-c", "seq 1 30000; sleep 1000")
    found = json.loads(said(daemon, "inspect", "here"))[0]
    assert found["HostConfig"]["LogConfig"] == {
        "Type": "local", "Config": {"max-file": "300", "max-size": "20k", "labels": "team"},
    }  # fmt: skip
    expected = "".join(f"{n}\n" for n in range(1, 30001))
    eventually(lambda: said(daemon, "logs", "-n", "1", "here") == "30000\n")
    assert said(daemon, "logs", "here") == expected
    place = Path(found["LogPath"])
    eventually(lambda: len(list(place.parent.glob("log.local.*.gz"))) > 20)
    assert said(daemon, "logs", "here") == expected
    daemon.kill()
    daemon.start()
    assert said(daemon, "logs", "here") == expected
    assert said(daemon, "logs", "--details", "-n", "1", "here") == "team=blue 30000\n"
    said(daemon, "rm", "-f", "here")
    assert not place.parent.exists()


def test_json_file_has_attributes_in_its_lines(daemon: Daemon) -> None:
    words = ["run", "--name", "told", "--log-driver", "json-file", "-e", "STAGE=test", "-e", "B=2"]
    more = ["--log-opt", "env-regex=^ST", "--log-opt", "tag={{.ID}}"]
    said(daemon, *words, *more, "busybox", "echo", "x")
    found = json.loads(said(daemon, "inspect", "told"))[0]
    (line,) = Path(found["LogPath"]).read_text().splitlines()
    assert json.loads(line)["attrs"] == {"STAGE": "test", "tag": found["Id"][:12]}
    assert said(daemon, "logs", "--details", "told") == f"STAGE=test,tag={found['Id'][:12]} x\n"
    said(daemon, "rm", "told")


def test_anybodys_shim_has_our_drivers_too(daemon: Daemon, entries: Journal) -> None:
    runtime = shutil.which("containerd-shim-runc-v2") or "containerd-shim-runc-v2"
    words = ["run", "--name", "alien", "--runtime", runtime, "--log-driver", "journald"]
    assert said(daemon, *words, "busybox", "echo", "x") == "x\n"
    eventually(lambda: of(entries, "alien"))
    assert said(daemon, "logs", "alien") == "x\n"
    said(daemon, "rm", "alien")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--log-driver syslog --log-opt syslog-address=http://x", "must be as udp://HOST:PORT"),
        ("--log-driver syslog --log-opt syslog-facility=loud", "must be a number to 23"),
        ("--log-driver syslog --log-opt syslog-format=xml", "must be one of rfc3164"),
        ("--log-driver syslog --log-opt syslog-tls-cert=/etc/passwd", "needs syslog-tls-key"),
        ("--log-driver journald --log-opt max-size=1m", "unknown to journald"),
        ("--log-opt tag={{.Colour}}", "tag knows {{.ID}}"),
        ("--log-opt mode=sometimes", "must be one of blocking"),
        ("--log-opt max-buffer-size=1m", "is for mode=non-blocking"),
        ("--log-opt labels-regex=(", "not a regular expression"),
    ],
)
def test_options_that_mean_nothing_are_said(daemon: Daemon, options: str, words: str) -> None:
    done = daemon.corectl("create", *options.split(), "busybox")
    assert done.returncode == 1
    assert words in done.stderr.decode()
