"""A client of the two web services, and the commands that people type: what they ask for, and how they show it."""
