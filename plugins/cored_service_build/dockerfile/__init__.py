"""Dockerfiles as values, without any I/O: parser, expansion of variables, lint, .dockerignore."""

from cored_service_build.dockerfile.parser import Dockerfile, Stage, parse

__all__ = ["Dockerfile", "Stage", "parse"]
