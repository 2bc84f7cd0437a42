"""Which sentences speak for the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pytest

from notifications.recap.lexrank import (
    SAME,
    Similarity,
    Vector,
    cosine,
    lexrank,
    select_diverse,
    tfidf_vectors,
    word_counts,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The dog, the DOG!", {"the": 2, "dog": 2}),
        ("公園に", {"公園": 1, "園に": 1}),
        ("犬", {"犬": 1}),
        ("3 кота", {"3": 1, "кота": 1}),
        ("…", {}),
    ],
)
def test_words_are_counted_without_case_and_pairs_where_there_are_no_spaces(text: str, found: dict[str, int]) -> None:
    assert word_counts(text) == Counter(found)


def test_a_sentence_is_a_vector_of_length_one_in_which_rare_words_weigh_more() -> None:
    rare, common, empty = tfidf_vectors([word_counts("dog blue"), word_counts("dog dog"), word_counts("")])
    assert math.isclose(sum(weight**2 for weight in rare.values()), 1)
    assert rare["blue"] / rare["dog"] == pytest.approx(math.log(4) / math.log(2.5))
    assert dict(common) == {"dog": pytest.approx(1.0)}
    assert dict(empty) == {}


def test_likeness_goes_from_none_to_the_same() -> None:
    one, other, same = tfidf_vectors([word_counts("dog blue red"), word_counts("cat"), word_counts("red dog blue")])
    assert cosine(one, other) == 0
    assert cosine(one, same) == pytest.approx(1)
    half = tfidf_vectors([word_counts("dog blue"), word_counts("dog red")])
    assert (
        cosine(*half)
        == cosine(*reversed(half))
        == pytest.approx(math.log(2) ** 2 / (math.log(2) ** 2 + math.log(3) ** 2))
    )


def test_the_sentence_that_is_most_like_the_others_ranks_first() -> None:
    said = ["the dog ran", "the dog ran home", "dog home", "a blue sky"]
    ranks = lexrank(tfidf_vectors([word_counts(one) for one in said]))
    assert max(range(4), key=ranks.__getitem__) == 1
    assert sum(ranks) == pytest.approx(1)
    assert ranks[3] == pytest.approx(0.25)  # alike to nobody, it keeps its own


def test_sentences_that_have_nothing_in_common_rank_alike() -> None:
    assert (
        lexrank(tfidf_vectors([word_counts("dog"), word_counts("sky"), word_counts("tea")]))
        == [pytest.approx(1 / 3)] * 3
    )
    assert lexrank([]) == []


def test_a_star_of_three_has_the_ranks_of_its_equation() -> None:
    """The middle is half like each end, the ends only like the middle; each is also like itself."""
    half = 0.5
    middle = {"a": half, "b": half, "c": math.sqrt(half)}
    ranks = lexrank([{"a": 1.0}, middle, {"b": 1.0}])
    # end = 0.05 + 0.85 (end / 1.5 + middle * 0.5 / 2), where middle = 1 - 2 end
    end = (0.05 + 0.85 / 4) / (1 - 0.85 / 1.5 + 0.85 / 2)
    assert ranks == [pytest.approx(end), pytest.approx(1 - 2 * end), pytest.approx(end)]


def test_who_is_hardly_alike_is_no_neighbour() -> None:
    near, far = {"a": 1.0}, {"a": 0.1, "b": math.sqrt(0.99)}
    assert lexrank([near, far]) == [pytest.approx(0.5)] * 2
    closer = {"a": 0.2, "b": math.sqrt(0.96)}
    ranks = lexrank([near, closer, {"b": 1.0}])
    assert ranks[1] > ranks[2] > ranks[0]


DOGS = tfidf_vectors([word_counts("dog blue"), word_counts("blue dog"), word_counts("cat"), word_counts("tea")])


def alike(vectors: Sequence[Vector]) -> Similarity:
    return lambda one, other: cosine(vectors[one], vectors[other])


def test_what_is_worth_most_is_chosen_and_nothing_that_says_the_same() -> None:
    assert select_diverse([0, 1, 2, 3], [1.0, 2.0, 0.5, 0.4], alike(DOGS), 2) == [1, 2]
    assert select_diverse([0, 1, 2, 3], [2.0, 2.0, 0.5, 0.4], alike(DOGS), 9) == [0, 2, 3]
    assert select_diverse([3, 2], [9.0, 9.0, 0.5, 0.4], alike(DOGS), 9) == [2, 3]
    assert select_diverse([0], [1.0] * 4, alike(DOGS), 0) == []
    assert select_diverse([], [], alike(DOGS), 3) == []
    assert select_diverse([0, 2], [0.0] * 4, alike(DOGS), 3) == [0, 2]


def test_nothing_is_chosen_that_is_much_like_what_was_chosen_before() -> None:
    assert select_diverse([0, 2, 3], [9.0, 9.0, 1.0, 2.0], alike(DOGS), 9, beside=[1]) == [3, 2]


def test_of_two_that_are_worth_the_same_the_one_that_is_less_alike_comes_first() -> None:
    vectors = tfidf_vectors([word_counts("dog blue red"), word_counts("dog cat fox owl"), word_counts("tea cup")])
    assert 0 < cosine(vectors[0], vectors[1]) < SAME
    assert select_diverse([0, 1, 2], [3.0, 2.0, 2.0], alike(vectors), 3) == [0, 2, 1]
