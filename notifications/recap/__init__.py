"""How a day becomes a text. Its modules, in the order of the work:

material (what counts), plan (notes and parts), prompt (the questions), answer and evidence (what is kept of an answer),
verify (the second look), finish (what replaces what was dropped), document (the stored recap); extract, with lexrank,
is the way without an LLM. Besides: words and languages.toml, markdown, bounds (lengths), trial (a check of an LLM).
"""
