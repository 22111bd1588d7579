"""The builder: Dockerfiles to images. ``plugin`` opens it; ``dockerfile`` is a library without I/O
that clients use as well."""
