"""Node 2: campaigns, and the carrier that they are sent through."""
