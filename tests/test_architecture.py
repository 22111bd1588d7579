"""The house rules that a machine can check: layers, sizes, types, lint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("cored", "plugins", "shim", "ctl")
FOLDERS = {"proto", "cored", "plugins", "shim", "ctl", "tests", "deploy", ".ci"}
# tables of names and numbers may be long
TABLES = {"cored/oci/seccomp.py", "cored/abc/events.py"}
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|base|manager)s?\.py$")


def sources() -> list[Path]:
    return [
        path
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "_pb" not in path.parts
    ]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


def tracked() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listing.stdout.splitlines()


def test_top_level_holds_only_the_agreed_folders() -> None:
    assert {name.split("/")[0] for name in tracked() if "/" in name} <= FOLDERS


def test_generated_messages_are_not_committed() -> None:
    assert not [name for name in tracked() if "_pb2" in name]


def test_no_file_is_over_500_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if (lines := len(path.read_text().splitlines())) > 500
        and str(path.relative_to(ROOT)) not in TABLES
    }
    assert not long


def test_files_are_nouns() -> None:
    assert not [str(path) for path in sources() if FORBIDDEN_NAMES.search(path.name)]


def test_only_rpc_imports_grpc() -> None:
    importers = {
        str(path.relative_to(ROOT))
        for path in sources()
        if re.search(r"^\s*(import|from) grpc\b", path.read_text(), re.MULTILINE)
    }
    assert not {name for name in importers if not name.startswith(("cored/rpc/", "cored/client/"))}


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.read_text().strip() and not path.read_text().lstrip().startswith(('"""', 'r"""'))
    ]
    assert not silent


def test_no_broad_except_swallows() -> None:
    bare = re.compile(r"except( Exception| BaseException)?:\s*\n\s*pass\b")
    assert not [str(path) for path in sources() if bare.search(path.read_text())]


def test_layers_hold() -> None:
    checked = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_ruff_finds_nothing() -> None:
    checked = run("ruff", "check", ".")
    assert checked.returncode == 0, checked.stdout
    formatted = run("ruff", "format", "--check", ".")
    assert formatted.returncode == 0, formatted.stdout


@pytest.mark.slow
def test_types_hold() -> None:
    checked = run("mypy", "cored", "shim/coreshim", "ctl/corectl", *plugins())
    assert checked.returncode == 0, checked.stdout + checked.stderr


def plugins() -> list[str]:
    return [str(path) for path in sorted((ROOT / "plugins").iterdir()) if path.is_dir()]
