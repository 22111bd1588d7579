"""Networks as people use them: made, listed, joined by containers, and names in them.

``catalog`` knows which there are, ``connections`` attaches containers, ``resolver`` answers for
their names, ``files`` writes what a container reads in /etc.
"""

from __future__ import annotations

from cored.engine.networks.catalog import Catalog
from cored.engine.networks.connections import Connections
from cored.engine.networks.resolver import Resolvers
from cored.engine.networks.values import Endpoint, Port, UserNetwork

__all__ = ["Catalog", "Connections", "Endpoint", "Port", "Resolvers", "UserNetwork"]
