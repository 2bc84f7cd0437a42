"""What on-call asks: each command a module."""
