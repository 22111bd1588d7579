"""The commands of corectl compose, one module for those that are alike."""
