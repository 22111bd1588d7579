"""Which OCI runtime takes which spec."""

from __future__ import annotations

import pytest
from cored_runtime_shim.oci import OciRuntime


@pytest.mark.parametrize(
    ("version", "spec", "takes"),
    [
        ("crun version 1.8.1\ncommit: x", b'{"ociVersion": "1.0.2"}', True),
        ("crun version 1.8.1\ncommit: x", b'{"ociVersion":"1.1.0"}', True),
        ("crun version 1.8.1\ncommit: x", b'{"ociVersion":"1.2.0"}', False),
        ("crun version 1.8.1\ncommit: x", b'{"ociVersion":"1.3.0"}', False),
        ("crun version 1.15\ncommit: x", b'{"ociVersion":"1.2.0"}', True),
        ("crun version 1.21\ncommit: x", b'{"ociVersion":"1.3.0"}', True),
        ("", b'{"ociVersion":"1.3.0"}', True),
        ("crun version 1.8.1", b"{}", True),
    ],
)
def test_old_cruns_take_old_specs_only(version: str, spec: bytes, takes: bool) -> None:
    assert OciRuntime("/usr/bin/crun", version).takes(spec) is takes
    assert OciRuntime("/usr/sbin/runc", "runc version 1.1.5").takes(spec)
