"""Markdown that an app keeps: its marks go, its words and lines stay."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.recap.markdown import without_marks


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("They met. They ate.\nThey left.", "They met. They ate.\nThey left."),
        ("# What was decided\n\nWe take it.", "What was decided:\nWe take it."),
        ("###### Who pays? ##\nAnn.", "Who pays:\nAnn."),
        ("#hashtag stays\n# \n#", "#hashtag stays"),
        ("**Next steps:**\n- Call Tom\n* Ask *Ann*\n+ Pay\n• Rest", "Next steps:\nCall Tom\nAsk Ann\nPay\nRest"),
        ("**Tom** pays 40 euros", "Tom pays 40 euros"),
        ("- [ ] open\n- [x] done\n  - below", "open\ndone\nbelow"),
        ("1. first\n2) second\n3. third", "first\nsecond\nthird"),
        ("5. Mai war schön\nund der 6. auch", "5. Mai war schön\nund der 6. auch"),
        ("Summary\n=======\nMore\n----\nIt rained.\n---\nIt stopped.", "Summary:\nMore:\nIt rained.\nIt stopped."),
        ("a\n\n---\n***\n* * *\n___\nb", "a\nb"),
        ("> Quoted\n> > twice\n>5 people\n> 5 people", "Quoted\ntwice\n>5 people\n5 people"),
        ("| who | what |\n|:---|---:|\n| Ann | pays |  |", "who; what\nAnn; pays"),
        ("```py\na * b * c\n```\n~~~\n# no heading\n~~~\nafter", "a * b * c\n# no heading\nafter"),
        ('see [the plan](https://x.example/a_(b)) and ![a map](m.png "t") [1][2]', "see the plan and a map 1"),
        ("[1]: https://x.example\n[note] stays, [x](not closed", "[note] stays, [x](not closed"),
        ("***all*** __of__ _it_ ~~gone~~ `code`", "all of it gone code"),
        ("2*3*4 = 24, 2**10, snake_case_name, a * b * c, * 5", "2*3*4 = 24, 2**10, snake_case_name, a * b * c, * 5"),
        (r"\*not\* \_this\_ \[nor\](this)", "*not* _this_ [nor](this)"),
        ("one<br>two<BR />three", "one\ntwo\nthree"),
        ("議事録\n## 決定事項\n- **予算**は40万円", "議事録\n決定事項:\n予算は40万円"),
        ("", ""),
        ("***\n\n```\n```\n# \n- ", "-"),
    ],
)
def test_marks_go_and_words_and_lines_stay(text: str, lines: str) -> None:
    assert without_marks(text) == lines


@given(st.text(alphabet="ab 1*_`#->|[]()=~.\\\n<br>:", max_size=80))
def test_whatever_stands_there_lines_without_edges_come_of_it(text: str) -> None:
    told = without_marks(text)
    assert set(told) <= set(text) | {":", ";", " ", "\n"}
    assert all(line.strip() == line and line for line in told.split("\n")) or not told


@pytest.mark.parametrize(
    "unit",
    [
        "[",
        "*a",
        "[a](",
        "_a",
        "**",
        "|",
        "- ",
        "1. a\n",
        "\\*",
        "`",
        '[a](b "',
        "- -",
        ": |-",
        "> ",
        "<br ",
        "-\n",
        "(a",
    ],
)
def test_no_text_holds_a_run_up(unit: str) -> None:
    """Quadratic work on 150,000 characters would take minutes."""
    begun = time.perf_counter()
    without_marks((unit * 150_000)[:149_999] + "x")
    assert time.perf_counter() - begun < 5
