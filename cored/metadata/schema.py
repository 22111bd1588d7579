"""The tables of metadata.db. Append a migration, never change one that was released."""

from __future__ import annotations

__all__ = ["MIGRATIONS"]

# labels and other maps are JSON; typed payloads are [type_url, base64] in JSON; times are ns
MIGRATIONS = [
    """
    CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE containers (
        namespace TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL,
        snapshotter TEXT NOT NULL, snapshot_key TEXT NOT NULL,
        PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
    CREATE TABLE images (
        namespace TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE sandboxes (
        namespace TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
    CREATE TABLE leases (
        namespace TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
    CREATE TABLE lease_resources (
        namespace TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
        PRIMARY KEY (namespace, lease, type, id),
        FOREIGN KEY (namespace, lease) REFERENCES leases (namespace, id) ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE TABLE blobs (
        namespace TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, labels TEXT NOT NULL,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
        PRIMARY KEY (namespace, digest)
    ) WITHOUT ROWID;
    CREATE INDEX blobs_digest ON blobs (digest);
    CREATE TABLE ingests (
        namespace TEXT NOT NULL, ref TEXT NOT NULL, backend_ref TEXT NOT NULL UNIQUE,
        expected TEXT NOT NULL,
        PRIMARY KEY (namespace, ref)
    ) WITHOUT ROWID;
    CREATE TABLE snapshots (
        namespace TEXT NOT NULL, snapshotter TEXT NOT NULL, key TEXT NOT NULL,
        backend_key TEXT NOT NULL, kind TEXT NOT NULL, parent TEXT NOT NULL, labels TEXT NOT NULL,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
        PRIMARY KEY (namespace, snapshotter, key)
    ) WITHOUT ROWID;
    CREATE INDEX snapshots_parent ON snapshots (namespace, snapshotter, parent);
    CREATE UNIQUE INDEX snapshots_backend ON snapshots (snapshotter, backend_key);
    """,
    # until when an ingest is kept without a lease, ns; those from before get a day
    """
    CREATE TABLE activations (
        number INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, name TEXT NOT NULL,
        ready INTEGER NOT NULL, record TEXT NOT NULL,
        UNIQUE (namespace, name)
    );
    ALTER TABLE ingests ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0;
    UPDATE ingests SET expires_at = (CAST(strftime('%s', 'now') AS INTEGER) + 86400) * 1000000000;
    """,
]
