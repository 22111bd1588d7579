"""corectl: the command line of cored."""
