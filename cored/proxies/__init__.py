"""Parts of other daemons as parts of ours: containerd's ``proxy_plugins``, by gRPC.

A proxy is configured as ``[proxy_plugins.<name>]`` with ``type`` (snapshot, content, diff,
sandbox) and ``address``, a unix socket that serves containerd's service of that kind.
"""

from __future__ import annotations

from cored.proxies.providers import providers

__all__ = ["providers"]
