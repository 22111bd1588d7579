"""A process that stays behind for the next commands, so that they need not import everything anew.

caller    what the installed ``corectl`` runs: ask a keeper, or be the command and leave one behind
likeness  who may stand in for whom: what the kernel says of both processes must be the same
leaving   one keeper for each likeness, and nothing of killed ones
keeper    waits for callers, forks a worker for each, passes signals on, tells how it ended
worker    takes a caller's place: files, directory, environment, arguments
"""
