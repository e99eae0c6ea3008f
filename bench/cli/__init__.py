"""What the commands share: how they end, counts in arguments, the live display."""
