"""Certificates made with openssl, for servers on loopback and their clients."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Authority", "authority"]


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a directory of its own."""

    place: Path

    @property
    def certificate(self) -> Path:
        return self.place / "ca.crt"

    def issue(
        self, name: str, *, days: int = 2, names: str = "IP:127.0.0.1,DNS:localhost"
    ) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1 and localhost, also a client's; its key.

        One of less than no ``days`` has expired.
        """
        certificate, key = self.place / f"{name}.cert", self.place / f"{name}.key"
        request, more = self.place / f"{name}.csr", self.place / f"{name}.ext"
        more.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", request, "-subj", f"/CN={name}"),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate),
            *("-CAkey", self.place / "ca.key", "-CAcreateserial", "-days", days),
            *("-extfile", more, "-out", certificate),
        )
        return certificate, key


_CURVE = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def authority(place: Path, name: str = "ca", kind: tuple[str, ...] = _CURVE) -> Authority:
    """A new authority; ``kind`` is its key's, in openssl's words."""
    place.mkdir(parents=True, exist_ok=True)
    _openssl(
        *("req", "-x509", "-newkey", *kind, "-nodes"),
        *("-keyout", place / "ca.key", "-out", place / "ca.crt", "-subj", f"/CN={name}"),
        *("-days", "2", "-addext", "keyUsage=critical,keyCertSign,digitalSignature"),
    )
    return Authority(place)


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
