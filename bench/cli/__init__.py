"""What the commands share: how they end, what they say of bad input, counts in arguments, the live display."""
