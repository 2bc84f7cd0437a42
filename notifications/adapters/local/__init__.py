"""Replacements for servers on one machine: an embedded Redis, SQLite, an outbox, samples."""
