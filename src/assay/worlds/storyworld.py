"""storyworld: short English stories told from known variables, so that probing and discovery have a true answer.

    >>> told = story(random.Random(1))
    >>> told.labels["tense"] in ("past", "present", "future")
    True

The variables are drawn independently, names, kinds and objects by rank^-1/2, except for the couplings listed here: no
snow at the beach and no sun at night; both characters differ in name and kind; `other`, `second_object` and
`second_colour` are "none" unless the event needs them. `mood` is the first character's mood
at the start, `ending` whether the event ends well. One seed and index give one story.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from assay.core.randomness import seed_of
from assay.worlds.events import EVENTS, Beat
from assay.worlds.grammar import TENSES, sentence
from assay.worlds.words import (
    ANIMALS,
    COLOURS,
    HABITS,
    HUMANS,
    MOODS,
    NAMES,
    OBJECTS,
    PLACES,
    PRONOUNS,
    STRANGERS,
    TIMES,
    WEATHERS,
)

MIN_WORDS, MAX_WORDS = 60, 150
IMPOSSIBLE = {("snowy", "beach"), ("sunny", "night")}

OPENINGS = {
    "past": ("One {time}", "One {time} last week,", "Long ago, one {time},", "Once upon a time, in the {time},",
             "Some days ago, in the {time},"),
    "present": ("This {time}", "It is {time}, and", "Today, in the {time},", "Right now, in the {time},"),
    "future": ("Tomorrow, in the {time},", "One {time} next week,", "One {time} soon,", "Next month, one {time},"),
}  # fmt: skip
ARRIVALS = (
    "{when} a [|young |little |brave |kind ]{a_kind} named {An} <[go|walk|travel|come]> {to_place}.",
    "{when} a [|young |little |brave |kind ]{a_kind} named {An} <be> {in_place}.",
    "{when} {An} the {a_kind} <[visit|explore]> {the_place}.",
    "{when} {An} the {a_kind} <[go|walk|come]> {to_place}.",
)
SKIES = ("{sky}.", "{sky}, and {a_he} <[see|watch|notice]> {sight}.", "{An} <see> that {sky}.")
MOOD_SENTENCES = (
    "{A} <[be|feel]> {mood}.",
    "{A} <[be|feel]> [very |really |]{mood} because {reason}.",
    "{A} <be> so {mood} that {a_he} {shows}.",
    "{A} {shows}, for {a_he} <be> {mood}.",
    "{A} <[be|feel]> {mood}. {a_he} {shows}.",
)
MEETINGS = (
    "There {a_he} <meet> {Bn}, a [|friendly |clever |noisy |shy ]{b_kind}.",
    "{Bn} the {b_kind} <be> [there too|with {a_him}|already there].",
    "A {b_kind} named {Bn} <[wait|sit|stand]> {spot2}.",
    "{A} <[meet|greet|call]> {a_his} friend {Bn}, a [|friendly |clever |noisy |shy ]{b_kind}.",
)
SIGHTSEEING = (
    "There <be/p> {sight} [everywhere|all around|].", "{A} <[see|watch|like]> {sight}.", "{A} {shows}.",
    "{A} <wear> a [warm|thin|new|long] [coat|shirt|cape].", "It <smell> of [smoke|flowers|fresh bread|wet leaves].",
    "[A bell <ring>|A bird <sing>|A voice <call>] [far away|nearby].",
    "{A} <have> walked [for hours|a long way|only a short way].",
)  # fmt: skip
COMPANY = (
    "{B} <point> at {sight}.", "{B} <share> [some bread|an apple|a sweet cake|some nuts] with {A}.",
    "{A} and {B} <talk/p> about [old times|their plans|their families].",
    "{B} <[be|feel]> [hungry|tired|thirsty|cold].",
    "{A} and {B} <have/p> known each other [for years|since spring|for a week].",
    "{B} <tell> {A} [a joke|a secret|some news].",
)  # fmt: skip
CLOSINGS = {
    "good": ("{A} <go> home with a [light heart|big smile|merry song].", "It <be> a [good|wonderful|lucky] {time}.",
             "{A} and {B} <go/p> home as [good friends|merry as ever].",
             "{A} <not forget> this {time}.", "{A} <sleep> well after that."),
    "bad": ("{A} <go> home with a heavy heart.", "It <be> a [bad|terrible|unlucky] {time}.",
            "{A} and {B} <go/p> home in silence.", "{A} <wish> that this {time} <be/s> over.",
            "{A} <not sleep> well after that."),
}  # fmt: skip
MORALS = {
    "good": ("[A friend|Kindness] is worth more than gold.", "Those who help are never alone.", "It pays to try again.",
             "Good things come to those who share."),
    "bad": ("Not every story ends well.", "[Anger|Greed] makes a poor friend.", "Some things cannot be undone.",
            "It is wise to think before you act."),
}  # fmt: skip


@dataclass(frozen=True)
class Story:
    """`labels` maps every variable of the world to its value, as words of English."""

    text: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Character:
    name: str
    kind: str
    gender: str

    @property
    def species(self) -> str:
        return "animal" if self.kind in ANIMALS else "human"


def _ranked(words: Sequence[str], rng: random.Random) -> str:
    return rng.choices(words, [rank**-0.5 for rank in range(1, len(words) + 1)])[0]


def _character(rng: random.Random, other: Character | None = None) -> Character:
    while True:
        gender = rng.choice(("female", "male"))
        kinds = ANIMALS if rng.random() < 0.4 else HUMANS[gender]
        made = Character(_ranked(NAMES[gender], rng), _ranked(kinds, rng), gender)
        if other is None or (made.name != other.name and made.kind != other.kind):
            return made


def _variables(rng: random.Random) -> tuple[dict[str, str], Character, Character]:
    """Draw the state of the world: everything that the text must agree with."""
    first = _character(rng)
    friend = _character(rng, first)
    place, time = rng.choice(list(PLACES)), rng.choice(TIMES)
    event = rng.choice(list(EVENTS))
    thing, second = _ranked(list(OBJECTS), rng), _ranked(list(OBJECTS), rng)
    while second == thing:
        second = _ranked(list(OBJECTS), rng)
    colour, second_colour = rng.sample(COLOURS, 2)
    labels = {
        "name": first.name, "gender": first.gender, "kind": first.kind, "species": first.species,
        "friend": friend.name, "friend_gender": friend.gender, "friend_kind": friend.kind,
        "friend_species": friend.species,
        "place": place, "setting": "indoors" if PLACES[place].indoors else "outdoors", "time": time,
        "weather": rng.choice([w for w in WEATHERS if not {(w, place), (w, time)} & IMPOSSIBLE]),
        "tense": rng.choices(TENSES, (5, 3, 2))[0], "mood": rng.choice(list(MOODS)), "event": event,
        "object": thing, "colour": colour,
        "second_object": second if EVENTS[event].second else "none",
        "second_colour": second_colour if EVENTS[event].second else "none",
        "other": rng.choice(STRANGERS) if EVENTS[event].stranger else "none", "ending": rng.choice(("good", "bad")),
        "dialogue": rng.choice(("yes", "no")), "moral": rng.choice(("yes", "no")),
    }  # fmt: skip
    return labels, first, friend


def _slots(
    labels: dict[str, str], first: Character, friend: Character, rng: random.Random
) -> dict[str, str | Callable[[], str]]:
    """What the templates may name; slots that vary from mention to mention are callables."""
    place, mood, thing = PLACES[labels["place"]], MOODS[labels["mood"]], OBJECTS[labels["object"]]
    spot, spot2 = rng.sample(place.spots, 2)
    skies = WEATHERS[labels["weather"]][place.indoors]
    in_turn = {"sky": rng.sample(skies, len(skies)), "shows": rng.sample(mood.shows, len(mood.shows)),
               "sight": rng.sample(place.sights, len(place.sights))}  # fmt: skip

    def next_of(name: str) -> Callable[[], str]:
        def take() -> str:  # no two asides repeat each other before the list is used up
            in_turn[name].append(in_turn[name][0])
            return in_turn[name].pop(0)

        return take

    slots: dict[str, str | Callable[[], str]] = {
        "time": labels["time"], "the_time": f"the {labels['time']}", "the_place": f"the {labels['place']}",
        "to_place": f"to the {labels['place']}", "in_place": f"{place.at} the {labels['place']}", "spot": spot,
        "spot2": spot2, "obj": labels["object"], "colour": labels["colour"],
        "cobj": f"{labels['colour']} {labels['object']}",
        "new_obj": lambda: f"a {rng.choice(('', *thing.looks))} {labels['colour']} {labels['object']}",
        "the_obj": lambda: f"the {rng.choice(('', '', labels['colour']))} {labels['object']}",
        "use": thing.use, "broken": thing.broken, "mood": lambda: rng.choice(mood.words),
        "reason": rng.choice(mood.reasons), **{name: next_of(name) for name in in_turn},
        "C": f"the {labels['other']}", "aC": f"a {labels['other']}",
    }  # fmt: skip
    if labels["second_object"] != "none":
        second = OBJECTS[labels["second_object"]]
        slots |= {"obj2": labels["second_object"], "cobj2": f"{labels['second_colour']} {labels['second_object']}",
                  "use2": second.use, "broken2": second.broken}  # fmt: skip
    for key, who, other in (("A", first, friend), ("B", friend, first)):
        small = key.lower()
        he, him, his, _ = PRONOUNS[who.gender]
        slots |= {key: lambda who=who: who.name if rng.random() < 0.7 else f"the {who.kind}", f"{key}n": who.name,
                  f"{small}_he": he, f"{small}_him": him, f"{small}_his": his, f"{small}_kind": who.kind}  # fmt: skip
        says = f"[{{{key}}} <say>|{{{key}}} <say>|{{{key}}} <tell> {{{'B' if key == 'A' else 'A'}}}]"
        if who.gender != other.gender:  # elsewhere "she said" could be either
            says = f"[{says}|{he} <say>]"
        slots[f"{small}says"] = says
    return slots


def _beats(beats: Sequence[Beat], dialogue: bool, rng: random.Random) -> list[str]:
    """One wording of each beat. With dialogue, beats that can be spoken are with p = .7, and at least one is."""
    speakable = [i for i, beat in enumerate(beats) if beat.said]
    forced = rng.choice(speakable)
    spoken = [dialogue and bool(beat.said) and (i == forced or rng.random() < 0.7) for i, beat in enumerate(beats)]
    return [rng.choice(beat.said if speak else beat.told) for beat, speak in zip(beats, spoken)]


def story(rng: random.Random) -> Story:
    """Draw a world and tell it: 60 to 150 words, one paragraph."""
    labels, first, friend = _variables(rng)
    slots = _slots(labels, first, friend, rng)
    event, tense = EVENTS[labels["event"]], labels["tense"]

    def write(template: str) -> str:
        return sentence(template, slots, tense, rng)

    slots["when"] = rng.choice(OPENINGS[tense])
    opening = [rng.choice(ARRIVALS), rng.choice(SKIES), rng.choice(MOOD_SENTENCES), rng.choice(MEETINGS)]
    script = _beats(
        event.beats + (event.good if labels["ending"] == "good" else event.bad), labels["dialogue"] == "yes", rng
    )
    closing = [rng.choice(CLOSINGS[labels["ending"]])]
    if labels["moral"] == "yes":
        closing.append(rng.choice(MORALS[labels["ending"]]))
    habit = ["{A} " + HABITS[first.kind] + "."] if first.kind in HABITS and rng.random() < 0.5 else []
    sightseeing = habit + rng.sample(SIGHTSEEING, len(SIGHTSEEING))
    company = rng.sample(COMPANY, len(COMPANY))

    parts = [write(template) for template in opening + script + closing]
    wanted, met = rng.randint(MIN_WORDS + 10, 110), len(opening)
    while (n_words := len(" ".join(parts).split())) < wanted and sightseeing and company:
        before_meeting = rng.random() < 0.5
        aside = write((sightseeing if before_meeting else company).pop(0))
        if aside not in parts and n_words + len(aside.split()) <= MAX_WORDS:
            parts.insert(2 if before_meeting else met, aside)
            met += before_meeting
    return Story(" ".join(parts), labels)


def stories(n: int, seed: int, *names: str | int) -> Iterator[Story]:
    """Yield n stories; story i depends only on the seed, the names and i. Different names are different streams."""
    for i in range(n):
        yield story(random.Random(seed_of(seed, "storyworld", *names, i)))
