"""Volumes: directories that outlive containers."""

from __future__ import annotations

from cored.engine.volumes.catalog import Catalog
from cored.engine.volumes.local import LocalDriver
from cored.engine.volumes.values import Volume, VolumeDriver

__all__ = ["Catalog", "LocalDriver", "Volume", "VolumeDriver"]
