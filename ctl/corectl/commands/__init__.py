"""One module for each noun of the command line; each is imported when its command is called."""
