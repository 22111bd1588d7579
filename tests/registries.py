"""A real registry: Debian's docker-registry on a loopback port, with a directory for its blobs."""

from __future__ import annotations

import hashlib
import http.client
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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

    def upload(self, repository: str, data: bytes) -> None:
        """Put a blob into a repository."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = self._send("POST", f"/v2/{repository}/blobs/uploads/", b"", "")
        place = urlsplit(begun.headers["Location"])
        self._send("PUT", f"{place.path}?{place.query}&digest={digest}", data, "")

    def put(self, repository: str, name: str, data: bytes, media_type: str) -> str:
        """Put a manifest or index under a tag or its digest; the reference to pull it by."""
        self._send("PUT", f"/v2/{repository}/manifests/{name}", data, media_type)
        return f"{self.host}/{repository}:{name}"

    def _send(self, method: str, path: str, data: bytes, kind: str) -> http.client.HTTPResponse:
        with closing(http.client.HTTPConnection(self.host)) as connection:
            connection.request(method, path, data, {"Content-Type": kind} if kind else {})
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (201, 202), said
            return answer

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
        end = time.monotonic() + 60
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
        process.wait(60)
