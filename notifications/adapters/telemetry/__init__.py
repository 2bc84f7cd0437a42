"""Heartbeat, metrics and traces."""
