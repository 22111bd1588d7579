"""The seams: abstract classes that plugins implement, and the frozen values that cross them.

No I/O happens here. Times are integers, nanoseconds since the epoch, UTC; sizes are bytes;
digests are strings ``sha256:<hex>``. Namespace and lease are not arguments but come from
:mod:`cored.scope`. Every method may raise the classes of :mod:`cored.errors` that its
contract names.
"""
