"""Features whose tokens are known beforehand: from the variables of storyworld, or from the text alone for any model.

story   words of a class (animals, colours, objects, ...), at their last token, and the story's own variables (its tense, its setting, ...),
        at all its tokens: the generator's true answers.
text    what a token itself shows: the first letter of a word, a capital, a digit, a punctuation mark.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assay.activations.text import document_id
from assay.core import shipped
from assay.worlds.words import ANIMALS, COLOURS, HUMANS, MOODS, NAMES, OBJECTS, PLACES, TIMES

Kind = Literal["story", "text"]
CLASSES: dict[str, frozenset[str]] = {
    "animal": frozenset(ANIMALS),
    "human": frozenset(word for kinds in HUMANS.values() for word in kinds),
    "female name": frozenset(name.lower() for name in NAMES["female"]),
    "male name": frozenset(name.lower() for name in NAMES["male"]),
    "colour": frozenset(COLOURS),
    "object": frozenset(OBJECTS),
    "place": frozenset(PLACES),
    "time": frozenset(TIMES),
    "mood": frozenset(word for mood in MOODS.values() for word in mood.words if " " not in word),
}
VARIABLES = ("tense", "gender", "species", "friend_gender", "friend_species", "setting", "dialogue", "ending")
EDGES = string.punctuation + string.whitespace


def features(
    kind: Kind,
    document: NDArray[np.int64],
    token_id: NDArray[np.int64],
    documents: Sequence[str],
    piece: Callable[[int], str],
) -> dict[str, NDArray[np.bool_]]:
    """name -> bool [n]: where the feature holds, for n tokens in the order of their documents.

    document [n]: index into `documents`, the ids of the texts; piece: the text that a token id adds inside a sentence.
    """
    pieces = [piece(int(token)) for token in token_id]
    return of_story(document, pieces, documents) if kind == "story" else of_text(pieces)


def of_text(pieces: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Of each token by itself. A word begins where a space does."""
    bare = [piece.strip() for piece in pieces]
    begins = [piece[:1].isspace() and word[:1].isalpha() for piece, word in zip(pieces, bare, strict=True)]
    first = np.array([word[:1].lower() if begin else "" for word, begin in zip(bare, begins, strict=True)])
    found = {f"begins with {letter}": first == letter for letter in string.ascii_lowercase}
    found["capital"] = np.array([word[:1].isupper() for word in bare])
    found["digit"] = np.array([word[:1].isdigit() for word in bare])
    found["punctuation"] = np.array([word[:1] in string.punctuation and word != "" for word in bare])
    return found


def of_story(
    document: NDArray[np.int64], pieces: Sequence[str], documents: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Classes of words and variables of the story; documents that are none of the shipped stories have no variables."""
    words = word_ends(document, pieces)
    found = {name: np.array([word in members for word in words]) for name, members in CLASSES.items()}
    labels = {document_id(story["text"]): story for story in shipped.stories()}
    for variable in VARIABLES:
        values = np.array([labels.get(name, {}).get(variable, "") for name in documents])
        found |= {f"{variable}: {v}": (values == v)[document] for v in sorted(set(values.tolist())) if v}
    return found


def word_ends(document: NDArray[np.int64], pieces: Sequence[str]) -> list[str]:
    """At the last token of each word the word, in small letters and without marks; elsewhere nothing."""
    found = [""] * len(pieces)
    word = ""
    for i, piece in enumerate(pieces):
        word = piece if i == 0 or document[i] != document[i - 1] or not piece[:1].isalpha() else word + piece
        last = i + 1 == len(pieces) or document[i + 1] != document[i] or not pieces[i + 1][:1].isalpha()
        found[i] = word.strip(EDGES).lower() if last else ""
    return found
