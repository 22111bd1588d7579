"""The values of the OCI image specification that everybody shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from cored.dataclass import dataclass

__all__ = ["Descriptor", "Platform"]


@dataclass(frozen=True, slots=True)
class Platform:
    """OCI platform (image-spec, image index): empty strings where nothing is said."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Descriptor:
    """OCI content descriptor: what a blob is, its digest and its size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str = ""
    urls: tuple[str, ...] = ()
