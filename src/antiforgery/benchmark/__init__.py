"""Protocols that measure what this project claims."""
