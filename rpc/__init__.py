"""The gRPC node: a server for both domains, and the client that the other services use."""

import os

# Read when grpc is imported. Our child processes run other programs at once: nothing is to be prepared for a fork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
