"""The process beside each container: creates it, owns its streams, reaps it, remembers its exit.

Contract with the shim manager (``plugins/cored_runtime_shim``):

- ``python -m coreshim zygote FD``: FD is one end of a SOCK_SEQPACKET pair. Each request is a JSON
  object ``{"n", "namespace", "id", "bundle", "address"}``; the answer, which comes when the shim
  listens, is ``{"n", "version", "address", "protocol", "pid"}`` or ``{"n", "error"}``. At the end
  of the pair the zygote ends; shims live on.
- ``containerd-shim-cored-v2 … start | delete``, ``-info``: containerd's shim v2 command line.
- In the bundle: ``config.json`` and (from the manager) ``runtime``, ``{"binary", "root", …}`` (see
  :func:`coreshim.runtime.chosen`); the shim writes ``address``, ``init.pid``, and ``exit.json``,
  ``{"pid", "status", "exited_at"}``, before it answers anybody about the exit; until its deletion
  an exec has the same in ``exits/ID``. The root filesystem is mounted at ``rootfs``.
- Streams: FIFO paths, ``file:///path``, ``binary:///path`` (``logger.py``), and logs that the shim
  writes and rotates itself, ``json-file:///path?max-size=10m&max-file=3&copy=FIFO`` or ``cri://…``
  (``sinks.py``).
- Service ``containerd.task.v2.Task`` and ``.v3.Task`` over ttrpc, one container a shim.
"""
