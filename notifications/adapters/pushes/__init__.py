"""The Push port."""
