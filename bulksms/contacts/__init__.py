"""Contacts from a CSV: its encoding and cells, phone numbers, and the reader that turns rows into contacts."""
