"""The ``-info`` flag: what containerd (since 2.0) asks a shim about its runtime."""

from __future__ import annotations

import json
import subprocess

from coreshim.codec import decode, encode
from coreshim.runtime import found

__all__ = ["info"]

_FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


def info(version: str, given: bytes) -> bytes:
    """A RuntimeInfo; ``given`` is an Any of runc's options, or nothing."""
    options = decode("Any", given)
    known = options["type_url"].endswith("runc.v1.Options")
    binary = decode("Options", options["value"] if known else b"")["binary_name"] or found()
    answer = {"name": "io.containerd.cored.v2", "version": {"version": version}}
    if given:
        answer["options"] = options
    features = _features(binary)
    if features:
        answer["features"] = {"type_url": _FEATURES, "value": features}
    answer["annotations"] = {"path": binary}
    return encode("RuntimeInfo", answer)


def _features(binary: str) -> bytes:
    """What the runtime says to ``features``; b'' where it does not know that."""
    done = subprocess.run(
        [binary, "features"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    try:
        json.loads(done.stdout)
    except ValueError:
        return b""
    return done.stdout
