"""Root file systems made of the Debian packages that are installed here: no network needed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

__all__ = ["root_archive"]

_ABOUT = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/lintian")
_CLOSURE = ("--recurse", "--installed", "--no-recommends", "--no-suggests", "--no-conflicts",
            "--no-breaks", "--no-replaces", "--no-enhances")  # fmt: skip


def root_archive(path: Path, packages: Iterable[str], *, without: Iterable[str] = ()) -> Path:
    """A tar of these packages' files and those that they depend on, without documentation.

    Maintainer scripts do not run: what they make (users, alternatives) is not there. ``without``
    names packages to leave out.
    """
    names = sorted(_with_dependencies(packages) - set(without))
    listed = _output("dpkg-query", "--listfiles", *names)
    files = {_merged(line) for line in listed.splitlines() if line.startswith("/")}
    wanted = sorted(f for f in files if f and not f.startswith(_ABOUT) and Path(f).exists())
    # /bin, /lib and their like are links here as there
    wanted += [
        f"/{name}" for name in ("bin", "sbin", "lib", "lib64") if Path("/", name).is_symlink()
    ]
    subprocess.run(
        ["tar", "-cf", path, "-C", "/", "--no-recursion", "--null", "-T", "-"],
        input="\0".join(f".{file}" for file in wanted).encode(),
        check=True,
    )
    return path


def _with_dependencies(packages: Iterable[str]) -> set[str]:
    lines = _output("apt-cache", "depends", *_CLOSURE, *packages).splitlines()
    found = {line for line in lines if line and not line.startswith((" ", "<"))}
    status = _output("dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n")
    installed = {row.split()[0] for row in status.splitlines() if row.endswith("ii ")}
    return found & installed


def _merged(file: str) -> str:
    """Where a file of a package is, since /bin and its like went into /usr."""
    top = file.split("/")[1]
    if Path("/", top).is_symlink():
        return f"/usr{file}" if file.count("/") > 1 else ""
    return "" if file == "/." else file


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
