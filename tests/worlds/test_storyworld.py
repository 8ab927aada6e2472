"""The generator: one seed gives one story, and every label is true of the text."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from assay.worlds.events import EVENTS
from assay.worlds.grammar import conjugate, sentence
from assay.worlds.storyworld import MAX_WORDS, MIN_WORDS, Story, stories
from assay.worlds.words import ANIMALS, HUMANS, MOODS, NAMES, PLACES

WEATHER_WORDS = {
    "sunny": "sun|sunny|sunlight", "rainy": "rain|raining|rainy", "windy": "wind|windy", "snowy": "snow|snowing|snowy",
    "foggy": "fog|foggy", "cloudy": "clouds|cloudy", "stormy": "storm|thunder",
}  # fmt: skip
TENSE_WORDS = {
    "past": "was|were|went|said|saw|felt|came|could|did", "present": "is|are|has|says|sees|feels|goes|does",
    "future": "will",
}  # fmt: skip


@pytest.fixture(scope="module")
def told() -> list[Story]:
    return list(stories(1500, 3))


def outside_speech(story: Story) -> str:
    """The narrator's words, without the moral, which is timeless."""
    text = re.sub(r'"[^"]*"', "", story.text)
    return re.sub(r"[^.!?]*[.!?]$", "", text) if story.labels["moral"] == "yes" else text


def has(pattern: str, text: str) -> bool:
    return re.search(rf"\b({pattern})\b", text, re.IGNORECASE) is not None


def test_a_story_depends_on_seed_name_and_index_alone() -> None:
    assert list(stories(5, 3)) == list(stories(50, 3))[:5]
    texts = {s.text for names in ((), ("train",), ("heldout",)) for seed in (3, 4) for s in stories(50, seed, *names)}
    assert len(texts) == 300


def test_who_where_when_and_with_what_stand_in_the_text(told: list[Story]) -> None:
    for story in told:
        labels = story.labels
        for key in ("name", "friend", "place", "time", "kind", "friend_kind"):
            assert has(labels[key], story.text), (key, story)
        assert f"{labels['colour']} {labels['object']}" in story.text, story
        assert labels["event"] in EVENTS
        for key in ("other", "second_object"):
            assert labels[key] == "none" or has(labels[key], story.text), (key, story)
        if labels["second_object"] != "none":
            assert f"{labels['second_colour']} {labels['second_object']}" in story.text or "trade?" in story.text
        assert (labels["setting"] == "indoors") == PLACES[labels["place"]].indoors
        for who, gender, kind, species in (
            ("name", "gender", "kind", "species"),
            ("friend", "friend_gender", "friend_kind", "friend_species"),
        ):
            assert labels[who] in NAMES[labels[gender]]
            assert labels[kind] in (ANIMALS if labels[species] == "animal" else HUMANS[labels[gender]])


def test_weather_and_mood_are_said_in_their_own_words(told: list[Story]) -> None:
    for story in told:
        assert has(WEATHER_WORDS[story.labels["weather"]], story.text), story
        assert has("|".join(MOODS[story.labels["mood"]].words), story.text), story


def test_the_narrator_keeps_to_one_tense(told: list[Story]) -> None:
    for story in told:
        text, tense = outside_speech(story), story.labels["tense"]
        assert has(TENSE_WORDS[tense], text), story
        for other in TENSE_WORDS:
            if other != tense and (tense, other) != ("future", "present"):  # "when she sees it, she will ..."
                assert not has(TENSE_WORDS[other], text), (other, story)


def test_pronouns_agree_with_the_characters(told: list[Story]) -> None:
    seen = Counter()
    for story in told:
        genders = {story.labels["gender"], story.labels["friend_gender"]}
        for gender, words in (("female", "she|her"), ("male", "he|him|his")):
            assert gender in genders or not has(words, story.text), story
            seen[gender] += gender in genders and has(words, story.text)
        for pattern, key in (
            (r"\bso (?!grateful)[a-z ]+ that (he|she)\b|, for (he|she)\b", "gender"),
            (r"\bso grateful that (he|she)\b", "friend_gender"),
        ):
            for pronoun in re.findall(pattern, story.text):
                said = "".join(pronoun)
                assert said == {"female": "she", "male": "he"}[story.labels[key]], story
                seen[key] += 1
    assert min(seen["female"], seen["male"], seen["gender"]) > 300
    assert seen["friend_gender"] > 5


def test_speech_is_there_exactly_when_the_label_says_so(told: list[Story]) -> None:
    for story in told:
        assert ('"' in story.text) == (story.labels["dialogue"] == "yes"), story
        assert story.text.count('"') % 2 == 0


def test_the_prose_is_clean_and_of_the_promised_length(told: list[Story]) -> None:
    for story in told:
        assert MIN_WORDS <= len(story.text.split()) <= MAX_WORDS
        assert re.fullmatch(r"[A-Za-z ,.:;!?\"]+", story.text), story
        assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [^aeiou]|  | [,.]|[.!?] \"?[a-z]", story.text), story
        sentences = re.split(r"(?<=[.!?]) ", story.text)
        assert len(set(sentences)) >= len(sentences) - 1


def test_every_variable_takes_many_values_and_no_story_repeats(told: list[Story]) -> None:
    assert len({s.text for s in told}) == len(told)
    for key in told[0].labels:
        counts = Counter(s.labels[key] for s in told)
        assert len(counts) >= 2
        assert counts.most_common(1)[0][1] < 0.95 * len(told), key
    assert {s.labels["event"] for s in told} == set(EVENTS)
    assert not [s for s in told if s.labels["weather"] == "snowy" and s.labels["place"] == "beach"]
    assert not [s for s in told if s.labels["weather"] == "sunny" and s.labels["time"] == "night"]


@pytest.mark.parametrize(
    ("lemma", "past", "present"),
    [("go", "went", "goes"), ("be", "was", "is"), ("carry", "carried", "carries"), ("play", "played", "plays"),
     ("drop", "dropped", "drops"), ("have", "had", "has"), ("catch", "caught", "catches"), ("can", "could", "can")],
)  # fmt: skip
def test_verbs_of_the_third_person(lemma: str, past: str, present: str) -> None:
    assert conjugate(lemma, "past") == past
    assert conjugate(lemma, "present") == present


def test_negation_plural_and_clauses() -> None:
    assert conjugate("see", "past", negative=True) == "did not see"
    assert conjugate("see", "present", negative=True, plural=True) == "do not see"
    assert conjugate("be", "past", negative=True, plural=True) == "were not"
    assert conjugate("be", "future", negative=True) == "will not be"
    assert conjugate("can", "future", negative=True) == "will not be able to"
    assert conjugate("see", "future", subordinate=True) == "sees"
    assert conjugate("run", "future", plural=True, subordinate=True) == "run"


def test_a_template_becomes_a_sentence() -> None:
    slots = {"A": "Lily", "thing": "orange key"}
    template = '{A} <find> a {thing} and <[smile]>, "we <not be/p> lost."'
    expected = 'Lily found an orange key and smiled, "We were not lost."'
    assert sentence(template, slots, "past", random.Random(0)) == expected
