"""Daily Recap: one recap per user per day, at their local hour. Never twice, never lost."""
