"""A very small grammar: choices, slots and verbs in a template become one English sentence in a given tense.

    [a|b|]        one of the alternatives, each equally likely; alternatives may be nested
    {slot}        a word or phrase of the story; a callable slot is asked anew at each mention
    <see>         third person singular in the story's tense: saw, sees, will see
    <see/p>       plural (they see);  <see/s> in a clause where English has no future ("when she sees it, she will ...")
    <not see>     negated: did not see, does not see, will not see

`a` before a vowel becomes `an`; the sentence and every direct speech begin with a capital.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

TENSES = ("past", "present", "future")

IRREGULAR = {
    "be": "was", "become": "became", "begin": "began", "bend": "bent", "bring": "brought", "build": "built",
    "buy": "bought", "catch": "caught", "choose": "chose", "come": "came", "do": "did", "draw": "drew",
    "fall": "fell", "feel": "felt",
    "find": "found", "fly": "flew", "forget": "forgot", "get": "got", "give": "gave", "go": "went", "grow": "grew",
    "have": "had", "hear": "heard", "hide": "hid", "hold": "held", "keep": "kept", "know": "knew", "lead": "led",
    "leave": "left", "light": "lit", "lose": "lost", "make": "made", "meet": "met", "put": "put", "read": "read",
    "ride": "rode", "ring": "rang", "rise": "rose", "run": "ran", "say": "said", "see": "saw", "shake": "shook",
    "shine": "shone", "sing": "sang", "sit": "sat", "sleep": "slept", "speak": "spoke", "stand": "stood",
    "steal": "stole", "swim": "swam", "take": "took", "teach": "taught", "tell": "told", "think": "thought",
    "throw": "threw",
    "understand": "understood", "wake": "woke", "wear": "wore", "win": "won", "wind": "wound", "write": "wrote",
    "blow": "blew", "break": "broke", "drink": "drank", "forgive": "forgave", "hang": "hung", "hit": "hit",
    "hurt": "hurt", "let": "let", "lie": "lay",
}  # fmt: skip
DOUBLED = {"beg", "clap", "drag", "drop", "flap", "grab", "hop", "hug", "nod", "plan", "rub", "skip", "slip", "snap",
           "stop", "tap", "trip", "trot", "wag", "unwrap", "wrap", "hum", "grin", "jog"}  # fmt: skip
PLURAL = {"was": "were", "is": "are", "has": "have", "does": "do"}

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_VERB = re.compile(r"<(not )?([a-z]+)(?:/([ps]+))?>")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeio])|\b([Aa]) (?=u(?:mb|nu|gl|nl))")


def past(lemma: str) -> str:
    if lemma in IRREGULAR:
        return IRREGULAR[lemma]
    if lemma.endswith("e"):
        return lemma + "d"
    if lemma.endswith("y") and lemma[-2] not in "aeiou":
        return lemma[:-1] + "ied"
    return lemma + (lemma[-1] if lemma in DOUBLED else "") + "ed"


def third_person(lemma: str) -> str:
    if lemma in ("be", "have"):
        return {"be": "is", "have": "has"}[lemma]
    if lemma.endswith(("s", "sh", "ch", "x", "o")):
        return lemma + "es"
    if lemma.endswith("y") and lemma[-2] not in "aeiou":
        return lemma[:-1] + "ies"
    return lemma + "s"


def conjugate(
    lemma: str, tense: str, *, plural: bool = False, subordinate: bool = False, negative: bool = False
) -> str:
    """One finite verb of the third person: `conjugate("go", "past") == "went"`."""
    if lemma == "can":
        word = {"past": "could", "present": "can", "future": "can" if subordinate else "will be able to"}[tense]
        first, *rest = word.split()
        return " ".join([first, "not", *rest] if negative else [first, *rest])
    if tense == "future" and not subordinate:
        return f"will {'not ' if negative else ''}{lemma}"
    in_past = tense == "past"
    if negative and lemma != "be":
        helper = "did" if in_past else "does"
        return f"{PLURAL.get(helper, helper) if plural else helper} not {lemma}"
    form = past(lemma) if in_past else third_person(lemma)
    if plural:
        form = PLURAL.get(form, form if in_past else lemma)
    return f"{form} not" if negative else form


def choose(template: str, rng: random.Random) -> str:
    """Replace every [a|b] by one of its alternatives, innermost first."""
    while "[" in template:
        template = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), template)
    return template


def sentence(template: str, slots: Mapping[str, str | Callable[[], str]], tense: str, rng: random.Random) -> str:
    """Write one template out. An unknown slot raises `KeyError`: the templates are ours."""

    def fill(found: re.Match[str]) -> str:
        value = slots[found[1]]
        return value if isinstance(value, str) else value()

    def verb(found: re.Match[str]) -> str:
        marks = found[3] or ""
        return conjugate(found[2], tense, plural="p" in marks, subordinate="s" in marks, negative=bool(found[1]))

    text = choose(template, rng)
    while "{" in text:
        text = _SLOT.sub(fill, text)
    text = _VERB.sub(verb, choose(text, rng))
    text = " ".join(text.split()).replace(" ,", ",").replace(" .", ".")
    text = _ARTICLE.sub(lambda found: (found[1] or found[2]) + "n ", text)
    text = re.sub(r'(^"?|[.!?] "?|, ")([a-z])', lambda found: found[1] + found[2].upper(), text)
    return text
