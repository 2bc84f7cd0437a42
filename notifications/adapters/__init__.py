"""Everything vendor-specific, and nothing else. Adapters never import each other."""
