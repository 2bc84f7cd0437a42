"""The rules, as tables and pure functions. Standard library only."""
