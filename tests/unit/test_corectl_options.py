"""What the options of run and create mean."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner
from corectl import output
from corectl.commands.containers import exit_code
from corectl.commands.lifecycle import signal_number
from corectl.mounts import volume as mount
from corectl.options import container_config, container_options, environment
from corectl.sizes import count

from cored.errors import InvalidArgument


def parse(*arguments: str) -> Any:
    """The configuration that the arguments of create stand for."""
    found: list[Any] = []

    @click.command(context_settings={"allow_interspersed_args": False})
    @container_options
    def command(pull: str, **options: Any) -> None:
        found.append(container_config(options))

    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return found[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("80", [("", 0, 80)]),
        ("8000:80", [("", 8000, 80)]),
        ("127.0.0.1:1-2:3-4", [("127.0.0.1", 1, 3), ("127.0.0.1", 2, 4)]),
        ("127.0.0.1::80", [("127.0.0.1", 0, 80)]),
        ("[::1]:6001:6001", [("::1", 6001, 6001)]),
        ("::1:6000:6000", [("::1", 6000, 6000)]),
    ],
)
def test_the_forms_of_a_published_port(text: str, wanted: list[tuple[str, int, int]]) -> None:
    found = parse("-p", text, "busybox").ports
    assert [(one.host_ip, one.host, one.container) for one in found] == wanted


@pytest.mark.parametrize("text", ["1:2:3:4:5", "a:b", "::80", "80/no", "70000", "2-1", "1-2:3-5"])
def test_what_is_no_published_port(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse("-p", text, "busybox")


def test_an_image_alone_leaves_all_to_it() -> None:
    config = parse("busybox")
    assert config.image == "busybox"
    assert list(config.args) == []
    assert not config.HasField("entrypoint")
    assert not (config.auto_remove or config.terminal or config.open_stdin or config.privileged)


def test_flags_can_be_joined() -> None:
    config = parse("-it", "--rm", "busybox", "sh", "-c", "ls -l")
    assert (config.open_stdin, config.terminal, config.auto_remove) == (True, True, True)
    assert list(config.args) == ["sh", "-c", "ls -l"]


def test_options_that_come_several_times_are_all_kept() -> None:
    config = parse(
        *("-e", "A=1", "-e", "B=x=y", "-l", "one=1", "-l", "two", "--cap-add", "NET_ADMIN"),
        *("--cap-add", "SYS_TIME", "--cap-drop", "ALL", "-v", "/a:/b", "-v", "/c:/d:ro", "x"),
    )
    assert list(config.env) == ["A=1", "B=x=y"]
    assert dict(config.labels) == {"one": "1", "two": ""}
    assert list(config.cap_add) == ["NET_ADMIN", "SYS_TIME"]
    assert list(config.cap_drop) == ["ALL"]
    assert [(m.source, m.target, m.read_only) for m in config.mounts] == [
        ("/a", "/b", False),
        ("/c", "/d", True),
    ]


def test_resources_and_the_rest_arrive() -> None:
    config = parse(
        *("-m", "64m", "--cpus", "1.5", "--pids-limit", "100", "-w", "/w", "-u", "1:2"),
        *("--hostname", "h", "--network", "host", "--read-only", "--privileged", "--name", "n"),
        *("--runtime", "r", "--snapshotter", "s", "--platform", "linux/arm64", "x"),
    )
    resources = config.resources
    assert (resources.memory_limit, resources.nano_cpus) == (64 << 20, 1_500_000_000)
    assert resources.pids_limit == 100
    assert (config.working_directory, config.user, config.hostname) == ("/w", "1:2", "h")
    assert (config.network, config.read_only, config.privileged) == ("host", True, True)
    assert (config.name, config.runtime, config.snapshotter) == ("n", "r", "s")
    assert config.platform == "linux/arm64"


@pytest.mark.parametrize(("given", "words"), [("/bin/x", ["/bin/x"]), ("", [])])
def test_an_entrypoint_replaces_the_images_even_when_empty(given: str, words: list[str]) -> None:
    config = parse("--entrypoint", given, "x")
    assert config.HasField("entrypoint")
    assert list(config.entrypoint.args) == words


def test_environment_without_a_value_is_ours_or_nothing() -> None:
    ours = {"HAVE": "it"}
    assert environment(["HAVE", "LACK", "EMPTY=", "A=b"], ours) == ["HAVE=it", "EMPTY=", "A=b"]
    with pytest.raises(InvalidArgument, match="no name"):
        environment(["=x"], {})


def test_a_source_that_begins_with_a_dot_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    assert mount("./lib:/x").source == "/usr/lib"
    assert mount(".:/x").source == "/usr"


def test_a_volume_has_a_name_or_none() -> None:
    assert (mount("data:/x").name, mount("data:/x").target) == ("data", "/x")
    assert (mount("/x").name, mount("/x").target) == ("", "/x")


@pytest.mark.parametrize(
    "text", ["relative/a:/x", "x", "/x:y", ":/x", "/x:", "/a:/b:zz", "/a:/b:ro:x"]
)
def test_a_volume_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="an absolute path"):
        mount(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("1024", 1024),
        ("1k", 1024),
        ("64M", 64 << 20),
        ("1.5g", 3 << 29),
        ("2GiB", 2 << 30),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, value: int) -> None:
    assert count(text) == value


@pytest.mark.parametrize("text", ["many", "-1", "1x", "m", "nan"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        count(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "two"])
def test_cpus_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse("--cpus", text, "x")


@pytest.mark.parametrize("text", ["TERM", "SIGTERM", "sigterm", "15"])
def test_signals_have_names_and_numbers(text: str) -> None:
    assert signal_number(text) == 15


@pytest.mark.parametrize("text", ["0", "999", "NOPE", "", "SIG_BLOCK"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        signal_number(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('exec: "nosuch": executable file not found in $PATH', 127),
        ('exec: "/no": stat /no: no such file or directory', 127),
        ("crun: executable file `nosuch` not found in $PATH", 127),
        ('exec: "/etc/passwd": permission denied', 126),
        ('exec: "/etc": is a directory', 126),
        ("exec /bin/arm: exec format error", 126),
        ("image 'x': not found", 125),
        ("OCI runtime '/no/such/runc': not found on this host", 125),
    ],
)
def test_exit_codes_are_dockers(text: str, code: int) -> None:
    assert exit_code(InvalidArgument(text)) == code


def test_columns_are_aligned_and_rows_do_not_trail(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "X"), [("a", "1"), ("longer", "")])
    assert capsys.readouterr().out == "NAME     X\na        1\nlonger\n"


def test_sizes_are_written_as_people_read_them() -> None:
    sizes = [output.size(n) for n in (0, 999, 1000, 2_020_000, 1_170_000_000)]
    assert sizes == ["0 B", "999 B", "1 kB", "2.02 MB", "1.17 GB"]
