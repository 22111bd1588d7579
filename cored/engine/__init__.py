"""What the daemon does: everything that spans several nouns and belongs to no single store."""
