"""The web service of node 2 and its worker."""
