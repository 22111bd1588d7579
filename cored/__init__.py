"""cored: a container daemon in Python, and the library that its plugins are written against."""

__version__ = "0.1.0"
