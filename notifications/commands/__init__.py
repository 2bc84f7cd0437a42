"""What a person can ask: one module a command."""
