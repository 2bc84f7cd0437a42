"""What people write in any language: words, numbers, dates, names, scripts; and what is meant for a machine."""
