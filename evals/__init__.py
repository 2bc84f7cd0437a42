"""How good the recaps are, measured: synthetic days with planted facts, lies, and seeded inventions."""
