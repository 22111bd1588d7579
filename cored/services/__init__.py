"""containerd's gRPC services, one thin file each: message to value, call, value to message."""
