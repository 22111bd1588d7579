"""cored: a container daemon in Python, and the library that its plugins are written against."""
