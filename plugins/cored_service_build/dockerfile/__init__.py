"""Dockerfiles as values, without any I/O: parser, expansion of variables, lint, .dockerignore."""
