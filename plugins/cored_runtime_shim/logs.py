"""Logs that a shim does not write itself: through a logging binary of ours."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlencode

from cored.abc.runtime import Stdio
from cored.errors import FailedPrecondition

__all__ = ["PLUGIN", "for_ours", "for_strangers"]

PLUGIN = "plugin://"
_OURS = ("json-file://", "cri://", "none://", "local://", "journald://", "syslog://")
_PROGRAM = "cored-logger"
# without the working directory, a bundle, among the places to import from
_HOST = {"-P": "", "-m": "cored_runtime_shim.driver_host"}


def for_ours(stdio: Stdio) -> Stdio:
    """The streams as our shim understands them: it knows all but drivers of plugins."""
    if not stdio.stdout.startswith(PLUGIN):
        return stdio
    return _through(stdio, sys.executable, _HOST)


def for_strangers(stdio: Stdio) -> Stdio:
    """The streams as any shim understands them. FailedPrecondition where ours is not installed."""
    if stdio.stdout.startswith(PLUGIN):
        return for_ours(stdio)
    if not stdio.stdout.startswith(_OURS) and not stdio.stderr.startswith(_OURS):
        return stdio
    beside = Path(sys.executable).with_name(_PROGRAM)
    program = str(beside) if beside.exists() else shutil.which(_PROGRAM)
    if program is None:
        raise FailedPrecondition(
            f"{_PROGRAM}: not found beside {sys.executable} nor on PATH", hint="install cored anew"
        )
    return _through(stdio, program, {})


def _through(stdio: Stdio, program: str, arguments: dict[str, str]) -> Stdio:
    logs = {"stdout": stdio.stdout, "stderr": stdio.stderr}
    given = {**arguments, **{key: uri for key, uri in logs.items() if uri}}
    uri = f"binary://{quote(program)}?{urlencode(given, quote_via=quote)}"
    return replace(stdio, stdout=uri, stderr="" if stdio.terminal else uri)
