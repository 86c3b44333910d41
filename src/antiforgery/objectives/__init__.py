"""What an optimisation asks of the targets."""
