"""Labels by which containers and networks of projects are known: docker's names for them."""

from __future__ import annotations

__all__ = ["DEPENDS", "DIRECTORY", "FILES", "HASH", "IMAGE", "NETWORK", "NUMBER", "ONEOFF",
           "PROJECT", "SERVICE", "VOLUME"]  # fmt: skip

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONEOFF = "com.docker.compose.oneoff"
HASH = "com.docker.compose.config-hash"
IMAGE = "com.docker.compose.image"
DEPENDS = "com.docker.compose.depends_on"
DIRECTORY = "com.docker.compose.project.working_dir"
FILES = "com.docker.compose.project.config_files"
NETWORK = "com.docker.compose.network"
VOLUME = "com.docker.compose.volume"
