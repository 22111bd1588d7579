"""A blocking client of the daemon: gRPC over a unix socket on h2, without grpcio.

Importing grpcio costs more than a whole call of a short-lived command (performance.md); this
package imports h2 and, per service, the messages that it needs.
"""
