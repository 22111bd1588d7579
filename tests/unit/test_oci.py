"""References, platforms, digests, chain ids, manifests, users, capabilities."""

from __future__ import annotations

import json

import pytest

from cored.errors import InvalidArgument, NotFound, Unimplemented
from cored.oci import capabilities, digest, platforms, users
from cored.oci.chainid import chain_ids
from cored.oci.manifest import Index, Manifest, parse, parse_config
from cored.oci.reference import parse as parse_reference
from cored.oci.users import User
from cored.oci.values import Platform

DIGEST = "sha256:" + "ab" * 32
DESCRIPTOR = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": DIGEST,
    "size": 7,
}
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/:/bin/false\nbroken line\n"
PASSWD += "1001:x:0:0::/:/bin/sh\nbroken:x:5:five::/:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:33:\nextra:x:50:web,other\n1001:x:0:\n"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("user/image:1", "docker.io/user/image:1"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("quay.io/a__b/c-d.e", "quay.io/a__b/c-d.e:latest"),
        ("[::1]:5000/x:y", "[::1]:5000/x:y"),
        ("index.docker.io/library/x", "docker.io/library/x:latest"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}"),
        (f"debian:12@{DIGEST}", f"docker.io/library/debian:12@{DIGEST}"),
    ],
)
def test_references_are_completed(text: str, whole: str) -> None:
    assert str(parse_reference(text)) == whole
    assert str(parse_reference(whole)) == whole


@pytest.mark.parametrize(
    "text",
    ["", "UPPER", "a//b", "a:", "a:b:c/d", "-x", "x@sha256:12", "x:" + "t" * 129, "a b", "../x"],
)
def test_bad_references_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_reference(text)


def test_platforms_are_ranked_by_variant() -> None:
    arm = Platform("linux", "arm", "v7")
    assert platforms.rank(arm, Platform("linux", "arm", "v7")) == 0
    assert platforms.rank(arm, Platform("linux", "arm", "v6")) == 1
    assert platforms.rank(arm, Platform("linux", "arm", "v8")) is None
    assert platforms.rank(arm, Platform("linux", "arm64", "v8")) is None
    assert platforms.parse("linux/aarch64") == Platform("linux", "arm64", "v8")
    assert platforms.rank(Platform("linux", "amd64"), Platform("linux", "amd64", "v2")) is None


def test_a_64_bit_processor_takes_what_is_for_its_relative_last() -> None:
    arm64, amd64 = Platform("linux", "arm64"), Platform("linux", "amd64")
    offers = [Platform("linux", "arm64"), *(Platform("linux", "arm", f"v{n}") for n in (8, 7, 6))]
    ranks = [platforms.rank(arm64, offer) for offer in offers]
    assert ranks == sorted(rank for rank in ranks if rank is not None)
    assert ranks[0] == 0
    assert ranks[1] == platforms.rank(amd64, Platform("linux", "386")) == platforms.RELATIVE
    assert platforms.rank(Platform("linux", "386"), amd64) is None
    assert platforms.rank(Platform("linux", "arm", "v8"), arm64) is None


def test_features_that_an_image_needs_must_be_wanted() -> None:
    plain = Platform("windows", "amd64")
    special = Platform("windows", "amd64", os_features=("win32k",))
    assert platforms.rank(plain, special) is None
    assert platforms.rank(special, special) == platforms.rank(special, plain) == 0


def test_a_manifest_says_what_it_is_about() -> None:
    document = {
        "schemaVersion": 2, "config": DESCRIPTOR, "layers": [], "subject": DESCRIPTOR,
        "artifactType": "a/b", "annotations": {"k": "v"},
    }  # fmt: skip
    manifest = parse(json.dumps(document).encode())
    assert manifest.subject is not None
    assert (manifest.subject.digest, manifest.artifact_type) == (DIGEST, "a/b")
    assert manifest.annotations == {"k": "v"}


def test_an_index_offers_the_best_manifest_or_says_what_there_is() -> None:
    entries = [
        {**DESCRIPTOR, "digest": f"sha256:{n:064x}", "platform": {"os": "linux", "architecture": a}}
        for n, a in enumerate(("s390x", "arm64", "amd64"))
    ]
    index = parse(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
    assert isinstance(index, Index)
    assert index.choose("x", Platform("linux", "amd64")).digest.endswith("2")
    with pytest.raises(NotFound, match="linux/s390x"):
        index.choose("x", Platform("linux", "riscv64"))


def test_a_manifest_is_read_and_schema_1_refused() -> None:
    document = {"schemaVersion": 2, "config": DESCRIPTOR, "layers": [DESCRIPTOR]}
    assert isinstance(parse(json.dumps(document).encode()), Manifest)
    with pytest.raises(Unimplemented, match="schema 1"):
        parse(b'{"schemaVersion": 1}')


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"config": {}, "layers": []}',
        json.dumps({"config": {**DESCRIPTOR, "size": -1}, "layers": []}).encode(),
        json.dumps({"config": {**DESCRIPTOR, "digest": "sha256:../../x"}, "layers": []}).encode(),
        json.dumps({"config": DESCRIPTOR, "layers": {"not": "a list"}}).encode(),
        json.dumps({"config": DESCRIPTOR, "layers": [], "subject": "x"}).encode(),
        json.dumps({"manifests": [], "config": DESCRIPTOR}).encode(),
    ],
)
def test_broken_manifests_are_refused(document: bytes) -> None:
    with pytest.raises(InvalidArgument):
        parse(document)


def test_a_config_is_read() -> None:
    config = parse_config(
        json.dumps(
            {"os": "linux", "architecture": "x86_64", "config": {"Env": ["A=1"], "Cmd": None},
             "rootfs": {"diff_ids": [DIGEST]}}
        ).encode()
    )  # fmt: skip
    assert (config.platform.architecture, config.env, config.cmd) == ("amd64", ("A=1",), ())


def test_chain_ids_are_those_of_the_specification() -> None:
    first, second = chain_ids(["sha256:" + "1" * 64, "sha256:" + "2" * 64])
    assert first == "sha256:" + "1" * 64
    assert second == digest.of(f"sha256:{'1' * 64} sha256:{'2' * 64}".encode())


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User()),
        ("root", User()),
        ("7:8", User(7, 8)),
        ("web", User(33, 33, (50,))),
        ("33", User(33, 33, (50,))),
        ("1000", User(1000, 0)),
        ("web:extra", User(33, 50)),
        ("web:0", User(33, 0)),
        # called like a number in the files of an image that wants to be root
        ("1001", User(1001, 0)),
        ("1001:1001", User(1001, 1001)),
        ("web:1001", User(33, 1001)),
        ("0033", User(33, 33, (50,))),
    ],
)
def test_users_are_found_in_the_images_files(text: str, user: User) -> None:
    files = {"/etc/passwd": PASSWD, "/etc/group": GROUP}
    assert users.resolve(text, files.__getitem__) == user


@pytest.mark.parametrize(
    "text", ["nobody-there", "web:no-such-group", "4294967295:0", "9" * 5000, "broken"]
)
def test_unknown_users_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        users.resolve(text, {"/etc/passwd": PASSWD, "/etc/group": GROUP}.__getitem__)


def test_capabilities_are_added_and_dropped() -> None:
    assert capabilities.chosen() == [c for c in capabilities.ALL if c in capabilities.DEFAULT]
    assert "CAP_SYS_ADMIN" in capabilities.chosen(["sys_admin"])
    assert "CAP_CHOWN" not in capabilities.chosen([], ["CAP_CHOWN"])
    assert capabilities.chosen(["NET_ADMIN"], ["ALL"]) == ["CAP_NET_ADMIN"]
    assert capabilities.chosen(["ALL"]) == list(capabilities.ALL)
    with pytest.raises(InvalidArgument):
        capabilities.chosen(["CAP_NONSENSE"])
