"""The commands for operators, one module each."""
