"""Volumes: directories that outlive containers."""

from __future__ import annotations

from cored.abc.volumes import Volume, VolumeDriver
from cored.engine.volumes.catalog import Catalog
from cored.engine.volumes.local import LocalDriver

__all__ = ["Catalog", "LocalDriver", "Volume", "VolumeDriver"]
