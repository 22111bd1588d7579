"""What a shim reads of OCI specs: next to nothing, they are the runtime's business."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from coreshim.server import INVALID, Failure

__all__ = ["has_pid_namespace", "with_terminal"]

_PID_NAMESPACE = re.compile(rb'\{[^{}]*"type"\s*:\s*"pid"[^{}]*\}')


def with_terminal(request: dict[str, Any]) -> bytes:
    """The OCI process of an exec request; whether it has a terminal is the request's word."""
    given: bytes = request["spec"]["value"] if request["spec"] else b"{}"
    try:
        spec = json.loads(given)
        if bool(spec.get("terminal")) == request["terminal"]:
            return given
    except (ValueError, AttributeError) as error:
        name = request["exec_id"]
        raise Failure(INVALID, f"process {name!r}: its spec is no OCI process: {error}") from error
    return json.dumps({**spec, "terminal": request["terminal"]}).encode()


def has_pid_namespace(bundle: str) -> bool:
    """Whether config.json asks for a new one. Read as text: its objects would stay in memory."""
    with open(os.path.join(bundle, "config.json"), "rb") as file:
        entry = _PID_NAMESPACE.search(file.read())
    return entry is not None and b'"path"' not in entry[0]
