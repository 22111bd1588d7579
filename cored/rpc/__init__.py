"""gRPC and ttrpc: messages on sockets. Nothing else in cored knows either."""
