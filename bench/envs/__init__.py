"""E environments as one batch."""
