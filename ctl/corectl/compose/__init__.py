"""Compose: an application of many containers from one file, as a client of the daemon."""
