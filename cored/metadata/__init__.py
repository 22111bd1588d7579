"""The metadata store: records in SQLite, and the wrappers that put content and snapshots into
namespaces. A request that changes something is one transaction; events follow the commit."""
