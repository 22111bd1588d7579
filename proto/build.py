"""Generate cored/_pb from the .proto sources: a hatch build hook, and a script to run by hand.

    python proto/build.py

Modules are ``cored._pb.<path of the .proto>_pb2``. The tree is made aside and swapped in whole,
and only when a source has changed.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parent
TARGET = SOURCES.parent / "cored" / "_pb"
PACKAGE = "cored._pb"

# "from a.b import c_pb2 as x" of generated code, whatever is not protobuf's own
_IMPORT = re.compile(r"^from (?!google\.protobuf)([\w.]+) import (\w+_pb2)", re.MULTILINE)
_IMPORT_TOP = re.compile(r"^import (?!google\.protobuf)((?:\w+\.)*)(\w+_pb2)", re.MULTILINE)


def stamp(sources: list[Path]) -> str:
    """A digest of all that the generated tree depends on."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(version_of("grpcio-tools").encode())
    for path in sources:
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def generate(force: bool = False) -> bool:
    """Bring cored/_pb up to date; True when it was made anew. RuntimeError says what is wrong."""
    sources = sorted(SOURCES.rglob("*.proto"))
    wanted = stamp(sources)
    mark = TARGET / ".stamp"
    if not force and mark.is_file() and mark.read_text() == wanted:
        return False
    with tempfile.TemporaryDirectory(dir=TARGET.parent, prefix="._pb-") as scratch:
        made = Path(scratch) / "new"
        made.mkdir()
        _compile(sources, made)
        for path in [*made.rglob("*.py"), *made.rglob("*.pyi")]:
            path.write_text(_rewritten(path.read_text()))
        for folder in [made, *(p for p in made.rglob("*") if p.is_dir())]:
            (folder / "__init__.py").write_text("")
        (made / ".stamp").write_text(wanted)
        if TARGET.exists():
            TARGET.rename(Path(scratch) / "old")
        made.rename(TARGET)
    return True


def _compile(sources: list[Path], target: Path) -> None:
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = [
        "protoc",
        f"--proto_path={SOURCES}",
        f"--proto_path={well_known}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        *(path.relative_to(SOURCES).as_posix() for path in sources),
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"{SOURCES}: protoc failed, see its messages above")


def _rewritten(text: str) -> str:
    text = _IMPORT.sub(rf"from {PACKAGE}.\1 import \2", text)
    return _IMPORT_TOP.sub(rf"import {PACKAGE}.\1\2", text)


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand where hatchling is not installed
    pass
else:

    class MessagesHook(BuildHookInterface[Any]):
        """Generates the messages before a wheel, an sdist or an editable install is built."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            del version, build_data
            generate()


if __name__ == "__main__":
    print(f"{TARGET}: {'made' if generate('--force' in sys.argv) else 'up to date'}")
