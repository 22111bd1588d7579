"""hosts.toml and certs.d, read as containerd reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cored.archive.jobs import Tls
from cored.engine.registry.hosts import CAPABILITIES, Host, hosts_of
from cored.errors import InvalidArgument


def write(root: Path, name: str, text: str) -> Path:
    (root / name).mkdir()
    (root / name / "hosts.toml").write_text(text)
    return root / name


def bases(registry: str, root: Path, scheme: str = "") -> list[str]:
    return [host.base for host in hosts_of(registry, [root], scheme)]


@pytest.mark.parametrize(
    ("registry", "scheme", "base"),
    [
        ("docker.io", "", "https://registry-1.docker.io/v2"),
        ("example.org", "", "https://example.org/v2"),
        ("example.org:5000", "http", "http://example.org:5000/v2"),
        ("localhost:5000", "", "http://localhost:5000/v2"),
        ("127.0.0.1:80", "", "http://127.0.0.1:80/v2"),
        ("127.0.0.1", "", "https://127.0.0.1/v2"),
        ("[::1]:5000", "https", "https://[::1]:5000/v2"),
    ],
)
def test_without_files_a_registry_is_itself(
    tmp_path: Path, registry: str, scheme: str, base: str
) -> None:
    assert bases(registry, tmp_path, scheme) == [base]


def test_only_loopback_is_trusted_without_a_certificate(tmp_path: Path) -> None:
    (local,) = hosts_of("localhost:5000", [tmp_path])
    (far,) = hosts_of("example.org", [tmp_path])
    assert (local.tls.insecure, local.guess) == (True, True)
    assert (far.tls.insecure, far.guess) == (False, False)


def test_mirrors_come_in_the_order_of_the_file_and_the_server_last(tmp_path: Path) -> None:
    write(
        tmp_path,
        "docker.io",
        """
        server = "https://registry-1.docker.io"
        [host."https://z.example"]
        capabilities = ["pull"]
        [host."http://a.example:5000/prefix"]
        [host."https://b.example/api/docker"]
        override_path = true
        capabilities = ["pull", "resolve"]
        """,
    )
    found = hosts_of("docker.io", [tmp_path])
    assert [host.base for host in found] == [
        "https://z.example/v2",
        "http://a.example:5000/prefix/v2",
        "https://b.example/api/docker",
        "https://registry-1.docker.io/v2",
    ]
    assert found[0].capabilities == {"pull"}
    assert found[1].capabilities == CAPABILITIES
    assert [host.mirrors for host in found] == ["docker.io"] * 3 + [""]


def test_a_file_without_a_server_leads_to_the_registry_itself(tmp_path: Path) -> None:
    write(tmp_path, "example.org", '[host."https://mirror.example"]\ncapabilities = ["pull"]\n')
    assert bases("example.org", tmp_path) == [
        "https://mirror.example/v2",
        "https://example.org/v2",
    ]


@pytest.mark.parametrize("name", ["example.org:5000", "example.org_5000_", "_default"])
def test_directories_are_found_by_all_their_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, 'server = "http://other.example"')
    assert bases("example.org:5000", tmp_path) == ["http://other.example/v2"]


def test_the_first_root_with_a_directory_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    write(second, "example.org", 'server = "https://second.example"')
    assert hosts_of("example.org", [first, second])[0].name == "second.example"
    write(first, "_default", 'server = "https://first.example"')
    assert hosts_of("example.org", [first, second])[0].name == "first.example"


def test_all_keys_are_read(tmp_path: Path) -> None:
    place = write(
        tmp_path,
        "example.org",
        """
        server = "example.org"
        ca = "own.pem"
        skip_verify = true
        [header]
        x-one = "1"
        [host."https://m.example"]
        ca = ["/a.pem", "b.pem"]
        client = [["c.cert", "c.key"], ["both.pem", ""], ["/alone.pem"]]
        dial_timeout = "1m500ms"
        [host."https://m.example".header]
        x-two = ["2", "3"]
        """,
    )
    mirror, server = hosts_of("example.org", [tmp_path])
    assert mirror.tls == Tls(
        ("/a.pem", f"{place}/b.pem"),
        (
            (f"{place}/c.cert", f"{place}/c.key"),
            (f"{place}/both.pem", f"{place}/both.pem"),
            ("/alone.pem", "/alone.pem"),
        ),
    )
    assert (mirror.headers, mirror.dial) == ((("x-two", "2, 3"),), 60.5)
    assert server == Host(
        "https",
        "example.org",
        tls=Tls((f"{place}/own.pem",), insecure=True),
        headers=(("x-one", "1"),),
    )
    assert "x-one" not in repr(server)  # such headers hold secrets


def test_dockers_files_count_where_there_is_no_hosts_toml(tmp_path: Path) -> None:
    place = tmp_path / "example.org:5000"
    place.mkdir()
    for name in ("ca.crt", "me.cert", "me.key", "README"):
        (place / name).write_text("")
    (host,) = hosts_of("example.org:5000", [tmp_path])
    assert host.tls == Tls((f"{place}/ca.crt",), ((f"{place}/me.cert", f"{place}/me.key"),))
    (place / "me.key").unlink()
    with pytest.raises(InvalidArgument, match=r"me\.key is missing"):
        hosts_of("example.org:5000", [tmp_path])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server = ", "hosts.toml"),
        ('server = "ftp://x"', "is not a URL with http"),
        ('capabilities = ["pull", "fly"]', "'fly'"),
        ("skip_verify = 1", "true or false"),
        ('dial_timeout = "soon"', "not a duration"),
        ("ca = [1]", "ca: must be"),
        ('client = [["a", "b", "c"]]', "client: must be"),
        ('host = "x"', "host: must be tables"),
        ('[host."https://me:secret@x.example"]', "has a user"),
        ('header = "x"', "header: must be a table"),
    ],
)
def test_mistakes_are_said_with_their_file_and_without_secrets(
    tmp_path: Path, text: str, said: str
) -> None:
    write(tmp_path, "example.org", text)
    with pytest.raises(InvalidArgument, match=said) as caught:
        hosts_of("example.org", [tmp_path])
    assert "hosts.toml" in caught.value.message
    assert "secret" not in str(caught.value)
