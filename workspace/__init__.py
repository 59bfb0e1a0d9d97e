"""The credit domain: workspaces, what they own, what is reserved, and the ledger of every change."""
