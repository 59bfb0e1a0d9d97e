"""The web service of node 1 and its worker."""
