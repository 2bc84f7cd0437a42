"""How a day becomes a text. Its modules, in the order of the work:

material (the conversations of a recap), plan (notes and parts), prompt (the questions), answer and evidence (which
sentences of an answer are kept), verify (the second look), stand_ins (what replaces what was dropped), document (the
stored recap). extract, with scoring and lexrank, makes a recap without an LLM. Besides: words and languages.toml,
bounds (lengths), self_test (a check of an LLM).
"""
