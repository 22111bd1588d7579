"""Images for several platforms in one build, and steps that ask for more than others have."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cored.oci import platforms
from tests.builds import Shop
from tests.daemons import Daemon

pytestmark = pytest.mark.root

BOTH = "linux/amd64,linux/arm64"
HERE = platforms.format(platforms.host())
FOREIGN = next(each for each in BOTH.split(",") if not HERE.startswith(each))
CROSS = """FROM --platform=$BUILDPLATFORM busybox AS compile
RUN echo compiled once > /common
ARG TARGETPLATFORM TARGETARCH
RUN echo "for $TARGETPLATFORM" > /program && cp /common /program-$TARGETARCH
FROM per-platform
COPY --from=compile /program* /
"""


@pytest.fixture
def shop(daemon: Daemon, tmp_path: Path) -> Shop:
    found = Shop(daemon, tmp_path)
    base = found.context("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /base\n",
                         {"amd64": "a", "arm64": "b"})  # fmt: skip
    found.build(base, "--platform", BOTH, "-t", "per-platform")
    return found


def test_one_build_makes_an_image_for_several_platforms(shop: Shop) -> None:
    context, place = shop.context(CROSS), shop.place
    file = place / "metadata"
    told = shop.build(
        context, "--platform", BOTH, "-t", "multi:1", "--metadata-file", file,
        "-o", f"type=oci,dest={place}/multi.tar",
    )  # fmt: skip
    assert "] RUN echo compiled once" in told and f"[{FOREIGN} compile 3/3] RUN" in told
    with tarfile.open(place / "multi.tar") as tar:
        blobs = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    (top,) = json.loads(blobs["index.json"])["manifests"]
    assert top["digest"] == json.loads(file.read_text())["containerimage.digest"]
    assert top["mediaType"] == "application/vnd.oci.image.index.v1+json"

    def blob(digest: str) -> dict[str, object]:
        return dict(json.loads(blobs[f"blobs/{digest.replace(':', '/')}"]))

    entries = blob(top["digest"])["manifests"]
    assert isinstance(entries, list)
    wanted = [platforms.parse(each) for each in BOTH.split(",")]
    assert [e["platform"]["architecture"] for e in entries] == [p.architecture for p in wanted]
    for entry, platform in zip(entries, wanted, strict=True):
        config = blob(blob(entry["digest"])["config"]["digest"])  # type: ignore[index]
        assert config["architecture"] == platform.architecture
        for each in blob(entry["digest"])["layers"]:  # type: ignore[attr-defined]
            assert f"blobs/{each['digest'].replace(':', '/')}" in blobs
    # what no platform changes has run once
    explained = shop.build(context, "--platform", BOTH, "-t", "multi:1", "--explain")
    assert "ran " not in explained
    alone = shop.tree(context, "--platform", FOREIGN)
    assert alone["base"][4] == ("b" if FOREIGN.endswith("arm64") else "a")
    assert alone["program"][4] == f"for {FOREIGN}\n"


def test_a_step_for_another_processor_says_that_it_cannot_run(shop: Shop) -> None:
    context = shop.context("FROM per-platform\nRUN true\n")
    failed = shop.build(context, "--platform", FOREIGN, code=1)
    assert "Dockerfile:2: RUN: programs for linux/" in failed
    assert "FROM --platform=$BUILDPLATFORM" in failed and "binfmt_misc" in failed
    alone = shop.context("FROM busybox\nRUN true\n")
    failed = shop.build(alone, "--platform", FOREIGN, code=1)  # not the one for another platform
    assert "Dockerfile:1: " in failed
    refused = shop.build(context, "--platform", BOTH, "-o", "type=tar,dest=/dev/null", code=1)
    assert "output tar: has the files of one platform only" in refused


def test_an_insecure_step_needs_leave(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox\nRUN --security=insecure mount -t tmpfs none /tmp && "
        "grep Seccomp: /proc/self/status > /seccomp\nRUN ! mount -t tmpfs none /tmp\n"
    )
    failed = shop.build(context, code=1)
    assert "Dockerfile:2: RUN: security insecure: is not allowed" in failed
    assert "--allow security.insecure" in failed
    tree = shop.tree(context, "--allow", "security.insecure")
    assert tree["seccomp"][4].split() == ["Seccomp:", "0"]


@pytest.fixture
def device() -> Iterator[str]:
    """By the Container Device Interface."""
    place = Path("/var/run/cdi")
    made = not place.exists()
    place.mkdir(exist_ok=True)
    node = {"path": "/dev/thing", "hostPath": "/dev/zero"}
    edits = {"env": ["THING=1"], "deviceNodes": [node]}
    document = {
        "cdiVersion": "0.6.0", "kind": "cored.build/thing",
        "devices": [{"name": "one", "containerEdits": edits}],
    }  # fmt: skip
    specification = place / f"cored-build-{os.getpid()}.json"
    specification.write_text(json.dumps(document))
    yield "cored.build/thing=one"
    specification.unlink()
    if made:
        place.rmdir()


def test_a_step_gets_devices_that_are_allowed(shop: Shop, device: str) -> None:
    context = shop.context(
        f"FROM busybox\nRUN --device={device} head -c 3 /dev/thing | wc -c > /size; "
        "echo $THING > /thing\nRUN --device=cored.build/thing=none test ! -e /dev/thing\n"
    )
    assert f"RUN: device '{device}': is not allowed" in shop.build(context, code=1)
    for allowed in ("device", f"device={device}"):
        tree = shop.tree(context, "--allow", allowed)
        assert tree["size"][4] == "3\n" and tree["thing"][4] == "1\n"
    needed = shop.context("FROM busybox\nRUN --device=cored.build/thing=none,required true\n")
    failed = shop.build(needed, "--allow", "device", code=1)
    assert "Dockerfile:2: RUN: CDI device 'cored.build/thing=none': not found" in failed


def test_proxies_of_the_users_configuration_reach_steps_and_no_image(shop: Shop) -> None:
    place = shop.place / "docker"
    place.mkdir()
    proxies = {"default": {"httpProxy": "http://proxy.test:3128", "noProxy": "localhost"}}
    (place / "config.json").write_text(json.dumps({"proxies": proxies}))
    environment = {**os.environ, "DOCKER_CONFIG": str(place)}
    context = shop.context('FROM busybox\nRUN echo "$http_proxy $HTTP_PROXY $no_proxy" > /seen\n')
    shop.build(context, "-t", "proxied:1", env=environment)
    told = shop.ran("proxied:1", "sh", "-c", "cat /seen; env")
    assert told.startswith("http://proxy.test:3128 http://proxy.test:3128 localhost\n")
    assert "proxy" not in "".join(told.splitlines()[1:]).lower()
    assert "proxy.test" not in shop("history", "--no-trunc", "proxied:1")
    # another proxy is no reason to run anything again
    assert "CACHED" in shop.build(context, "--build-arg", "http_proxy=http://other:1")
