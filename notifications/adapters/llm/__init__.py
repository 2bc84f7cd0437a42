"""The Summarizer port."""
