"""The Claims port: Redis."""
