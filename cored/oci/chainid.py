"""Chain ids: the name of a stack of layers (image-spec, config: layer ChainID)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["chain_ids"]


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain id of every prefix of ``diff_ids``, the bottom layer first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        if not chain:
            chain.append(diff_id)
        else:
            chain.append(f"sha256:{hashlib.sha256(f'{chain[-1]} {diff_id}'.encode()).hexdigest()}")
    return chain
