"""Which sentences speak for the others: LexRank (Erkan and Radev, 2004), over sentences of any language."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from notifications.recap.words import WORD, writes_no_spaces

ALIKE = 0.1  # cosine from which two sentences speak for each other
SAME = 0.57  # cosine from which two sentences say the same
RELEVANCE = 0.5  # of what a sentence is worth, beside how much it is like those that were chosen
DAMPING = 0.85
ROUNDS = 30

Weights = Mapping[str, float]
Alike = Callable[[int, int], float]  # how alike the sentences at two places are: 0 to 1


def words(text: str) -> Counter[str]:
    """The words of a sentence, without case; pairs of letters where its script writes no spaces."""
    found: Counter[str] = Counter()
    for word in WORD.findall(text.casefold()):
        if writes_no_spaces(word):
            found.update(word[n : n + 2] for n in range(max(1, len(word) - 1)))
        else:
            found[word] += 1
    return found


def weighed(sentences: Sequence[Counter[str]]) -> list[Weights]:
    """Each sentence as a vector of length 1: words that stand in few sentences weigh more."""
    stands_in = Counter(word for sentence in sentences for word in sentence)
    many = len(sentences)
    vectors: list[Weights] = []
    for sentence in sentences:
        vector = {word: count * math.log(1 + many / stands_in[word]) for word, count in sentence.items()}
        length = math.sqrt(math.fsum(weight * weight for weight in vector.values()))
        vectors.append({word: weight / length for word, weight in vector.items()} if length else {})
    return vectors


def cosine(one: Weights, other: Weights) -> float:
    """How alike two sentences are: 0 to 1."""
    if len(other) < len(one):
        one, other = other, one
    return math.fsum(weight * other[word] for word, weight in one.items() if word in other)


def lexrank(vectors: Sequence[Weights]) -> list[float]:
    """The rank of each; all of them together are 1. Each gives its own to those that are like it, by how much."""
    if not vectors:
        return []
    many = len(vectors)
    neighbours = _neighbours(vectors)
    ranks = [1 / many] * many
    for _ in range(ROUNDS):
        given = [(1 - DAMPING) / many] * many
        for place, near in enumerate(neighbours):
            share = DAMPING * ranks[place] / math.fsum(near.values())
            for other, alike in near.items():
                given[other] += share * alike
        ranks = given
    return ranks


def _neighbours(vectors: Sequence[Weights]) -> list[dict[int, float]]:
    """Of each those that are alike, itself among them. By words that both have: most pairs have none."""
    holders: dict[str, list[tuple[int, float]]] = defaultdict(list)
    found: list[dict[int, float]] = [{place: 1.0} for place in range(len(vectors))]
    for place, vector in enumerate(vectors):
        likeness: dict[int, float] = defaultdict(float)
        for word, weight in vector.items():
            for other, its in holders[word]:
                likeness[other] += weight * its
            holders[word].append((place, weight))
        for other, alike in likeness.items():
            if alike > ALIKE:
                found[place][other] = found[other][place] = alike
    return found


def select_diverse(
    places: Sequence[int], worth: Sequence[float], alike: Alike, most: int, beside: Iterable[int] = ()
) -> list[int]:
    """The `most` places that are worth most and alike least: maximal marginal relevance (Carbonell, Goldstein 1998).

    None is much like another, or like one of `beside`, which were chosen before.
    """
    chosen: list[int] = []
    likeness = {place: max((alike(place, one) for one in beside), default=0.0) for place in places}
    left = [place for place in places if likeness[place] < SAME]
    best = max((worth[place] for place in places), default=0.0) or 1.0
    while left and len(chosen) < most:
        place = max(left, key=lambda n: (RELEVANCE * worth[n] / best - (1 - RELEVANCE) * likeness[n], -n))
        chosen.append(place)
        left.remove(place)
        for one in left:
            likeness[one] = max(likeness[one], alike(place, one))
        left = [one for one in left if likeness[one] < SAME]
    return chosen
