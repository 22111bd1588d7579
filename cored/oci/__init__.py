"""OCI images and runtime specs: names, documents and rules. No I/O."""
