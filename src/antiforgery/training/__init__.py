"""Recipes that made the bundled weights, and the loop that follows them; one file a training."""
