"""A real registry: Debian's docker-registry on a loopback port, with a directory for its blobs."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Registry", "registry"]


@dataclass
class Registry:
    """``host`` is ``127.0.0.1:<port>``."""

    host: str
    root: Path
    log: Path

    def push(self, archive: Path, name: str, *, kind: str = "oci-archive", user: str = "") -> str:
        """Push an archive with skopeo; the reference to pull it by."""
        reference = f"{self.host}/{name}"
        subprocess.run(
            [
                "skopeo",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                "--insecure-policy",
                *(["--dest-creds", user] if user else []),
                f"{kind}:{archive}",
                f"docker://{reference}",
            ],
            check=True,
            capture_output=True,
        )
        return reference

    def blob(self, digest: str) -> Path:
        """Where the registry keeps a blob's data."""
        value = digest.removeprefix("sha256:")
        return self.root / f"docker/registry/v2/blobs/sha256/{value[:2]}/{value}/data"


@contextmanager
def registry(root: Path, settings: str = "", tls: str = "") -> Iterator[Registry]:
    """A registry that ends with the body; more ``settings``, and those of ``http.tls``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = root / "config.yml"
    config.write_text(
        f"""
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {root}/data}}
  delete: {{enabled: true}}
http:
  addr: "127.0.0.1:{port}"
  {f"tls: {tls}" if tls else ""}
{settings}
"""
    )
    with open(root / "log", "wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (root / "log").read_text()
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        yield Registry(f"127.0.0.1:{port}", root / "data", root / "log")
    finally:
        process.terminate()
        process.wait(10)
