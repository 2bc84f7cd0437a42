"""Names in a sentence that its notes do not have: words with a capital, in scripts that have them."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple

from notifications.domain.language.common_words import COMMON, ENGLISH_ENDINGS, tuple_of, words_of
from notifications.domain.language.words import common, primary, without_ending

TOKEN = re.compile(r"[^\W\d_](?:[^\W_]|['’\-‑](?=[^\W_]))*")
ENDS = re.compile(r"[.!?…:;。！？؟۔।\n]\W*$|^\W*$|[\"“„«»‚‘(\[]\W*$")  # what follows may begin with a capital anyway
JOINT = re.compile(r"['’\-‑]")
CAPITALISE_NOUNS = ("de", "lb")
NOUN_ENDINGS = tuple_of(
    """
    ung ungen heit keit keiten schaft tion tionen tät täten ment nis nisse ismus tum ling chen lein erei ierung
    punkt punkte zeit tag tage woche wochen jahr jahre stunde stunden minute minuten gespräch gespräche termin
    termine plan pläne frage fragen idee ideen thema themen arbeit projekt projekte euro prozent uhr
    """
)
BEFORE_NOUNS = words_of(
    """
    der die das den dem des ein eine einen einem einer eines kein keine keinen keinem keiner mein meine meinen
    meinem meiner dein deine deinen deinem deiner sein seine seinen seinem seiner ihr ihre ihren ihrem ihrer unser
    unsere unseren unserem unserer euer eure im am zum zur vom beim ins ans aufs diese dieser dieses diesen diesem
    jede jeder jedes jeden jedem alle allen viele vielen wenige einige einigen mehr weniger etwas nächste nächsten
    nächster letzte letzten erste ersten zweite neue neuen neuer neues neuem alte alten gute guten großer große
    großen kleine kleinen gemeinsame gemeinsamen ganze ganzen offene offenen wichtige wichtigen zwei drei vier fünf
    sechs sieben acht
    """
)
TITLES = words_of(
    """
    mr mrs ms dr prof sir madam miss herr herrn frau monsieur madame mme mlle señor señora sr sra don doña signor
    signora signore dott senhor senhora dona pan pani pana meneer mevrouw i ok tv uk us eu ai am pm ceo hr it pc pdf
    sms app id faq
    """
)
LANGUAGES = words_of(
    """
    english german french spanish italian portuguese dutch polish russian turkish japanese chinese korean arabic
    hindi greek latin swedish danish norwegian finnish czech hungarian ukrainian hebrew vietnamese thai englisch
    deutsch französisch spanisch italienisch portugiesisch niederländisch polnisch russisch türkisch japanisch
    chinesisch arabisch griechisch latein schwedisch dänisch norwegisch finnisch tschechisch ungarisch ukrainisch
    """
)


SMALL_LETTERS = 5  # that a word shares with one that is written small
OPENERS = words_of(  # what English sentences begin with that is in no list of common words, and is no name
    """
    add agree agreed apparently arrange ask book bring buy call cancel catch check choose clean collect confirm continue
    cook decide deliver discuss draft eat exercise explore family fix fly focus follow food friends garden goodbye
    happy health hear hike home hopefully house invite join keep learn leave lend listen look lots lunchtime meals
    meeting meetings message money move music news nobody note open order organise organize paint pay people pick plan
    plans play please post prepare print read remind rent repair reply replace research rest return review run save
    schedule school sell send set share shopping sign sleep sort sport start stay stop store study submit swim switch
    team thank thanks theatre think time train travel trip try turn update use visit wait walk wash watch wear weather
    weekend whatever wish work workout write
    """
)


class Known(NamedTuple):
    """The words of the notes, without case: whole, without case endings, and how those begin that are written small."""

    words: Container[str]
    stems: Container[str]
    small: Container[str]


def strange_name(text: str, known: Known, language: str | None, *, is_title: bool = False) -> bool:
    """Whether a name stands in the text that is not among the known words. In a title, the first word is none."""
    tongue = primary(language)
    nouns = tongue in CAPITALISE_NOUNS
    before = ""
    for found in TOKEN.finditer(text):
        previous, before = before, found[0].casefold()
        strange = (part for part in JOINT.split(found[0]) if part[:1].isupper() and not _known(part, known, tongue))
        word = next((part for part in strange if not _no_name(part, language)), "")  # of d'Anouk, Müller-Kranz, Ines's
        if not word or _known(found[0], known, tongue) or _no_name(found[0], language):
            continue
        if found.start() == 0 or ENDS.search(text[max(0, found.start() - 8) : found.start()]):
            if is_title or not _begins_like_a_name(word, known, tongue):
                continue
        elif nouns and (previous in BEFORE_NOUNS or _is_a_noun(word)):
            continue
        return True
    return False


def _known(word: str, known: Known, tongue: str) -> bool:
    plain = word.casefold()
    if plain in known.words or without_ending(plain, tongue) in known.stems:
        return True
    return plain.endswith("s") and plain[:-1] in known.words  # Annas


def _no_name(word: str, language: str | None) -> bool:
    plain = word.casefold()
    return len(word) == 1 or plain in TITLES or plain in LANGUAGES or plain in common(language)


def _begins_like_a_name(word: str, known: Known, tongue: str) -> bool:
    """At the start of a sentence every word has a capital. Who has no list of common words does not judge."""
    plain = word.casefold()
    if tongue not in COMMON and tongue != "":
        return False
    if (plain if len(plain) < SMALL_LETTERS else plain[:SMALL_LETTERS]) in known.small:
        return False
    if tongue in ("en", "") and (plain.endswith(ENGLISH_ENDINGS) or plain in OPENERS):
        return False
    return tongue not in CAPITALISE_NOUNS or not _is_a_noun(word)


def _is_a_noun(word: str) -> bool:
    return word.casefold().endswith(NOUN_ENDINGS)
