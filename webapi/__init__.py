"""Node 1: the credit of workspaces, over HTTP and WebSocket."""
