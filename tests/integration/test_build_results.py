"""What is left of builds: images in registries, histories, files about them, a cache with limits;
and what a terminal shows of them."""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.builds import Shop
from tests.daemons import CORECTL, Daemon
from tests.registries import Registry, registry

pytestmark = pytest.mark.root


@pytest.fixture
def shop(daemon: Daemon, tmp_path: Path) -> Shop:
    return Shop(daemon, tmp_path)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_images_go_to_a_registry_and_bases_come_from_it(shop: Shop, hub: Registry) -> None:
    base, image = f"{hub.host}/base:1", f"{hub.host}/app:1"
    context = shop.context("FROM busybox\nRUN echo first > /base\n")
    told = shop.build(context, "-t", base, "--push")
    assert "done" in told
    shop("rmi", base)
    app = shop.context(f"FROM {base}\nRUN cat /base > /app\n")
    shop.build(app, "-t", image, "--push")
    assert shop.ran(image, "cat", "/app") == "first\n"

    # somebody else pushes a newer base: it counts when that is asked for
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo second > /base\n")
    shop.build(context, "-t", base, "--push")
    shop("rmi", base)
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo local > /base\n")
    shop.build(context, "-t", base)
    assert shop.tree(app)["app"][4] == "local\n"
    assert shop.tree(app, "--pull")["app"][4] == "second\n"
    shop("rmi", image)
    shop("pull", image)
    assert shop.ran(image, "cat", "/app") == "first\n"
    nameless = shop.build(app, "--push", code=1)
    assert "an image without a name cannot be pushed (-t)" in nameless
    missing = shop.context(f"FROM {hub.host}/none:1\n")
    assert "Dockerfile:1: " in shop.build(missing, code=1)


def test_several_platforms_go_to_a_registry_as_one_image(shop: Shop, hub: Registry) -> None:
    name = f"{hub.host}/multi:1"
    context = shop.context("FROM scratch\nARG TARGETARCH\nCOPY <<E /arch\n$TARGETARCH\nE\n")
    shop.build(context, "--platform", "linux/amd64,linux/arm64", "-t", name, "--push")
    document = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    manifests = json.loads(document)["manifests"]
    assert [m["platform"]["architecture"] for m in manifests] == ["amd64", "arm64"]


def test_history_has_each_instruction_with_its_size(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox\nENV A=1\nRUN head -c 100000 /dev/urandom > /r\nCOPY large /\n"
        'LABEL l=1\nWORKDIR /new\nCMD ["x"]\n',
        {"large": os.urandom(5000)},
    )
    file = shop.place / "iid"
    shop.build(context, "-t", "told:1", "--iidfile", file)
    form = "{{.CreatedBy}}|{{.Size}}|{{.ID}}"
    lines = shop("history", "--no-trunc", "--no-human", "--format", form, "told:1").splitlines()
    found = {line.split("|")[0]: int(line.split("|")[1]) for line in lines}
    assert list(found)[:3] == ['CMD ["x"]', "WORKDIR /new", "LABEL l=1"]
    assert lines[0].endswith(file.read_text())
    run = next(text for text in found if text.startswith("RUN /bin/sh -c head"))
    assert found[run] >= 100_000 and 5000 <= found["COPY large /"] < 100_000
    assert found["ENV A=1"] == found["LABEL l=1"] == 0


def test_metadata_says_what_was_built(shop: Shop) -> None:
    context, file = shop.context("FROM scratch\nCOPY <<E /f\nE\n"), shop.place / "metadata"
    shop.build(context, "-t", "said:1", "-t", "said:2", "--metadata-file", file)
    document = json.loads(file.read_text())
    (image,) = json.loads(shop("image", "inspect", "said:1"))
    assert document["containerimage.config.digest"] == image["Id"]
    assert document["image.name"] == "docker.io/library/said:1,docker.io/library/said:2"
    descriptor = document["containerimage.descriptor"]
    assert descriptor["digest"] == document["containerimage.digest"] and descriptor["size"] > 0


def test_the_cache_is_pruned_by_size_and_by_age(shop: Shop) -> None:
    shop("builder", "prune")
    names = ("one", "two", "three")
    for name in names:
        text = f"FROM scratch\nCOPY {name} /\n"
        shop.build(shop.context(text, {name: os.urandom(1 << 20)}), "-t", f"{name}:1")

    def left() -> list[str]:
        listed = shop("builder", "ls")
        return [name for name in names if f"COPY {name} /" in listed]

    shop("builder", "prune", "--keep-storage", "2500k")
    assert left() == ["two", "three"]
    database = shop.daemon.home / "root/grpc_service.build/cache.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "UPDATE steps SET used_at = used_at - ? WHERE instruction = 'COPY three /'",
            (2 * 86400 * 10**9,),
        )
        connection.commit()
    shop("builder", "prune", "--filter", "until=24h")
    assert left() == ["two"]
    assert shop.daemon.corectl("builder", "prune", "--filter", "until=ever").returncode


def test_steps_are_limited_as_asked(shop: Shop) -> None:
    context = shop.context("FROM busybox\nRUN echo begun; sleep 1000\n")
    words = [*CORECTL, "--address", str(shop.daemon.address), "build", "--progress=plain"]
    words += ["--cpus", "0.5", "-m", "64m", "--timeout", "60", str(context)]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert any(line.endswith(b" begun\n") for line in process.stderr)
        names = shop.daemon.ctr("containers", "ls", "-q").stdout.split()
        (id,) = (name for name in names if name.startswith("build-"))
        spec = json.loads(shop.daemon.ctr("containers", "info", "--spec", id).stdout)
        process.terminate()
        process.communicate()
    cpu, memory = (spec["linux"]["resources"][name] for name in ("cpu", "memory"))
    assert cpu["quota"] / cpu["period"] == 0.5 and memory["limit"] == 64 << 20


def test_raw_json_is_one_event_a_line(shop: Shop) -> None:
    context = shop.context("FROM busybox as x\nRUN echo seen; echo why >&2\n")
    done = shop.daemon.corectl("build", "--progress=rawjson", "--no-cache", str(context))
    events = [json.loads(line) for line in done.stderr.splitlines()]
    states = [(e["step"]["name"], e["step"]["state"]) for e in events if "step" in e]
    assert ("[x 2/2] RUN echo seen; echo why >&2", "done") in states
    assert [e["warning"]["rule"] for e in events if "warning" in e] == ["FromAsCasing"]
    assert any("output" in event for event in events) and "result" in events[-1]
    failing = shop.context("FROM busybox\nRUN exit 3\n")
    done = shop.daemon.corectl("build", "--progress=rawjson", str(failing))
    assert done.returncode == 1
    last = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")][-1]
    assert last["step"]["state"] == "failed" and "exit code 3" in last["step"]["error"]


def on_terminal(shop: Shop, *words: str) -> tuple[int, str]:
    """The exit code of a build on a terminal, and what that has seen."""
    ours, theirs = pty.openpty()
    command = [*CORECTL, "--address", str(shop.daemon.address), "build", *words]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:  # EIO: all that had the other end have closed it
            process.wait()
        finally:
            os.close(ours)
    return process.returncode, seen.decode()


def test_a_terminal_shows_each_step_with_its_last_lines(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox AS a\nRUN for i in 1 2 3; do echo line $i; sleep 0.3; done\n"
        "FROM busybox AS b\nRUN sleep 0.5; echo other\n"
        "FROM scratch\nCOPY --from=a /bin/busybox /a\nCOPY --from=b /bin/busybox /b\n"
    )
    code, seen = on_terminal(shop, "--no-cache", "-t", "seen:1", str(context))
    assert code == 0
    assert "\x1b[" in seen, "it draws over what it has drawn"
    assert re.search(r"\[a 2/2\] RUN for i in 1 2 3.*  \d+\.\ds", seen)
    assert "   line 1" in seen and "[b 2/2] RUN sleep 0.5" in seen
    assert "docker.io/library/seen:1" in seen.splitlines()[-1]
    code, seen = on_terminal(shop, "-t", "seen:1", str(context))
    assert code == 0 and seen.count("CACHED") >= 4
    failing = shop.context("FROM busybox\nRUN echo reason; exit 9\n")
    code, seen = on_terminal(shop, str(failing))
    assert code == 1 and "reason" in seen and "exit code 9" in seen
    code, seen = on_terminal(shop, "--progress=plain", str(failing))
    assert code == 1 and "#2 FAILED" in seen
