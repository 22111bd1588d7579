"""Our logs for shims that do not know them: through a logging binary of ours."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlencode

from cored.abc.runtime import Stdio
from cored.errors import FailedPrecondition

__all__ = ["for_strangers"]

_OURS = ("json-file://", "cri://", "none://")
_PROGRAM = "cored-logger"


def for_strangers(stdio: Stdio) -> Stdio:
    """The streams as any shim understands them. FailedPrecondition where ours is not installed."""
    if not stdio.stdout.startswith(_OURS) and not stdio.stderr.startswith(_OURS):
        return stdio
    beside = Path(sys.executable).with_name(_PROGRAM)
    program = str(beside) if beside.exists() else shutil.which(_PROGRAM)
    if program is None:
        raise FailedPrecondition(
            f"{_PROGRAM}: not found beside {sys.executable} nor on PATH", hint="install cored anew"
        )
    logs = {"stdout": stdio.stdout, "stderr": stdio.stderr}
    query = urlencode({key: uri for key, uri in logs.items() if uri}, quote_via=quote)
    uri = f"binary://{program}?{query}"
    return replace(stdio, stdout=uri, stderr="" if stdio.terminal else uri)
