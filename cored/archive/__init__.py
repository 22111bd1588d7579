"""Layers: reading, writing, fetching and extracting tar archives, in worker processes."""
