"""Opens the builder."""
