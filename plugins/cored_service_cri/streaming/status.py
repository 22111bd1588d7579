"""How a command ended, as Kubernetes' clients read it: a Status of the API, as JSON."""

from __future__ import annotations

import json

from cored.errors import CoredError

__all__ = ["failure", "is_failure", "of"]


def of(code: int) -> bytes:
    """For an exit code."""
    if code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    return _failed(
        f"command terminated with non-zero exit code: {code}",
        "NonZeroExitCode",
        {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    )


def failure(error: CoredError) -> bytes:
    """For what kept a command from running."""
    details = {"causes": [{"message": str(error)}]}
    return _failed(f"Internal error occurred: {error}", "InternalError", details, code=500)


def is_failure(text: bytes) -> bool:
    """Whether a Status is one of a failure."""
    return b'"Failure"' in text


def _failed(message: str, reason: str, details: object, **more: int) -> bytes:
    table = {
        "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "details": details, **more,
    }  # fmt: skip
    return json.dumps(table).encode()
