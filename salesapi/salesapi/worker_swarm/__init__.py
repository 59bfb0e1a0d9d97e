"""The workers of salesapi."""
