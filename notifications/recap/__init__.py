"""One recap, step by step: material, prompt, answer, and the document that is stored."""
