"""The configuration: defaults, files, flags and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cored.__main__ import main
from cored.config import Config, dump, load, validate
from cored.errors import InvalidArgument, NotFound


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_what_default_prints_reads_back_as_the_default(tmp_path: Path) -> None:
    assert load(write(tmp_path, dump(Config()))) == Config()


def test_tables_and_plugin_tables_are_read(tmp_path: Path) -> None:
    config = load(
        write(
            tmp_path,
            'root = "/srv/cored"\n[grpc]\nmode = 0o600\n[plugins.runtime.shim]\nruntime = "crun"\n',
        )
    )
    assert config.root == Path("/srv/cored")
    assert config.grpc.mode == 0o600
    assert config.for_plugin("runtime", "shim") == {"runtime": "crun"}
    assert config.for_plugin("runtime", "other") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rooot = '/x'", "unknown key 'rooot'"),
        ("[grpc]\nmodus = 1", "unknown key 'grpc.modus'"),
        ("log_level = 3", "'log_level' must be str"),
        ("grpc = 3", "'grpc' must be a table"),
        ("root = [", "config.toml"),
    ],
)
def test_bad_files_are_refused_with_the_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        load(write(tmp_path, text))


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cored config default"):
        load(tmp_path / "none.toml")


def test_paths_must_be_absolute() -> None:
    with pytest.raises(InvalidArgument, match="root"):
        validate(replace(Config(), root=Path("here")))
    with pytest.raises(InvalidArgument, match="address"):
        validate(replace(Config(), address="tcp://1.2.3.4:5"))
    with pytest.raises(InvalidArgument, match="100 bytes"):
        validate(replace(Config(), address="/" + "x" * 120))


def test_unix_scheme_is_taken_off() -> None:
    assert validate(replace(Config(), address="unix:///run/x.sock")).address == "/run/x.sock"


def test_dump_shows_file_and_flags_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, 'log_level = "debug"\n')
    assert main(["--config", str(path), "--root", "/srv/x", "config", "dump"]) == 0
    shown = write(tmp_path, capsys.readouterr().out)
    assert load(shown) == replace(Config(), log_level="debug", root=Path("/srv/x"))


def test_errors_are_one_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "none"), "config", "dump"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cored: config file ")
    assert err.count("\n") == 1
