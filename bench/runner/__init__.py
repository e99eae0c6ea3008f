"""Many trials: the pool of workers, what they cost, what the user sees."""
