"""The words of storyworld: who, where, when, with what, in which mood.

Names, kinds and objects are ordered by frequency.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMES = {
    "female": ("Lily", "Mia", "Anna", "Sara", "Emma", "Rosa", "Nora", "Clara", "Zoe", "Ruby", "Ella", "Maya", "Hana",
    "Ivy",
               "Lucy", "Tess", "Greta", "Wilma", "Olga", "Pearl"),
    "male": ("Tom", "Ben", "Max", "Sam", "Leo", "Jack", "Finn", "Oscar", "Hugo", "Tim", "Felix", "Omar", "Paul", "Gus",
             "Ravi", "Theo", "Victor", "Bruno", "Milo", "Otto"),
}  # fmt: skip
PRONOUNS = {"female": ("she", "her", "her", "herself"), "male": ("he", "him", "his", "himself")}

HUMANS = {
    "female": ("girl", "baker", "farmer", "teacher", "princess", "doctor", "sailor", "painter", "witch", "queen"),
    "male": ("boy", "baker", "farmer", "teacher", "prince", "doctor", "sailor", "painter", "wizard", "king"),
}
ANIMALS = (
    "fox",
    "rabbit",
    "cat",
    "dog",
    "bear",
    "mouse",
    "duck",
    "frog",
    "owl",
    "wolf",
    "goat",
    "pig",
    "hedgehog",
    "squirrel",
)
HABITS = {  # what an animal kind does with its body; the model can only know it from the kind
    "fox": "<wave> {a_his} bushy tail", "rabbit": "<wiggle> {a_his} long ears", "cat": "<lick> {a_his} soft paws",
    "dog": "<wag> {a_his} tail", "bear": "<scratch> {a_his} thick fur", "mouse": "<twitch> {a_his} tiny whiskers",
    "duck": "<flap> {a_his} wings", "frog": "<hop> up and down", "owl": "<turn> {a_his} head and <blink>",
    "wolf": "<lift> {a_his} gray nose", "goat": "<shake> {a_his} horns", "pig": "<roll> in the mud",
    "hedgehog": "<raise> {a_his} sharp spines", "squirrel": "<chew> on a nut",
}  # fmt: skip
STRANGERS = (
    "old woman",
    "old man",
    "tall stranger",
    "young guard",
    "clever crow",
    "quiet monk",
    "busy gardener",
    "tired traveler",
)

COLOURS = ("red", "blue", "green", "yellow", "white", "black", "purple", "orange", "silver", "golden", "pink", "brown")


@dataclass(frozen=True)
class Thing:
    use: str  # verb: what one does with it
    broken: str  # participle: what it is when it breaks
    looks: tuple[str, ...]


OBJECTS = {
    "ball": Thing("throw", "punctured", ("round", "bouncy", "little")),
    "kite": Thing("fly", "torn", ("long", "light", "pretty")),
    "book": Thing("read", "torn", ("thick", "old", "dusty")),
    "hat": Thing("wear", "torn", ("tall", "funny", "soft")),
    "boat": Thing("sail", "cracked", ("slow", "little", "fast")),
    "drum": Thing("play", "dented", ("loud", "big", "round")),
    "lamp": Thing("light", "cracked", ("bright", "tiny", "old")),
    "basket": Thing("carry", "torn", ("wide", "light", "pretty")),
    "bell": Thing("ring", "dented", ("heavy", "tiny", "shiny")),
    "doll": Thing("hold", "torn", ("soft", "little", "pretty")),
    "cup": Thing("fill", "cracked", ("tiny", "shiny", "deep")),
    "flute": Thing("play", "cracked", ("old", "long", "thin")),
    "umbrella": Thing("open", "bent", ("big", "wide", "new")),
    "rope": Thing("pull", "torn", ("strong", "thick", "long")),
    "wagon": Thing("pull", "dented", ("heavy", "strong", "big")),
    "mask": Thing("wear", "cracked", ("funny", "strange", "old")),
    "scarf": Thing("wear", "torn", ("warm", "soft", "long")),
    "crown": Thing("polish", "bent", ("shiny", "heavy", "tiny")),
    "map": Thing("study", "torn", ("old", "secret", "large")),
    "clock": Thing("wind", "cracked", ("old", "loud", "heavy")),
    "box": Thing("open", "dented", ("secret", "large", "heavy")),
    "whistle": Thing("blow", "bent", ("loud", "tiny", "shiny")),
    "brush": Thing("clean", "bent", ("soft", "thin", "new")),
    "shovel": Thing("lift", "bent", ("strong", "heavy", "new")),
    "mirror": Thing("polish", "cracked", ("round", "strange", "shiny")),
    "sled": Thing("ride", "cracked", ("fast", "old", "new")),
}


@dataclass(frozen=True)
class Place:
    at: str  # preposition of being there
    indoors: bool
    spots: tuple[str, ...]
    sights: tuple[str, ...]  # plural noun phrases


PLACES = {
    "park": Place("in", False, ("under the bench", "near the pond", "behind the fountain", "beside the swings"),
                  ("children on the swings", "ducks on the pond", "people on the grass")),
    "forest": Place("in", False, ("under the pine tree", "behind the mossy rock", "near the old oak",
                    "inside a hollow log"),
                    ("tall trees", "mushrooms on the ground", "deer between the trees")),
    "beach": Place("at", False, ("in the sand", "behind the dunes", "near the waves", "under the pier"),
                   ("shells in the sand", "crabs near the water", "gulls above the waves")),
    "market": Place("at", False, ("under the fruit stand", "behind the fish cart", "near the cheese stall",
                    "beside the scales"),
                    ("baskets of apples", "sellers at their stalls", "carts full of bread")),
    "school": Place("at", True, ("under the desk", "behind the blackboard", "near the window", "beside the bookshelf"),
                    ("rows of desks", "pictures on the wall", "pupils with pencils")),
    "farm": Place("on", False, ("in the hay", "behind the barn", "near the fence", "beside the well"),
                  ("cows in the field", "hens in the yard", "sheep on the hill")),
    "library": Place("in", True, ("between two shelves", "under the reading table", "behind the ladder",
                     "near the front desk"),
                     ("shelves full of stories", "readers at the tables", "letters under glass")),
    "garden": Place("in", False, ("under the roses", "behind the shed", "near the gate", "beside the apple tree"),
                    ("bees on the flowers", "roses along the wall", "butterflies above the grass")),
    "river": Place("by", False, ("under the bridge", "behind the reeds", "near the mill", "between two stones"),
                   ("fish in the water", "boats near the bank", "stones under the water")),
    "castle": Place("in", True, ("under the throne", "behind the curtain", "near the stairs", "beside the fireplace"),
                    ("knights in the hall", "candles on the walls", "flags above the gate")),
    "kitchen": Place("in", True, ("under the table", "behind the stove", "near the sink", "beside the flour jar"),
                     ("pots on the stove", "spoons in a jar", "pies on the counter")),
    "museum": Place("in", True, ("behind the statue", "under the glass case", "near the dinosaur",
                    "beside the painting"),
                    ("bones behind glass", "visitors in the halls", "statues made of stone")),
    "mountain": Place("on", False, ("behind the boulder", "in a small cave", "near the peak", "beside the steep path"),
                      ("eagles above the rocks", "goats on the cliffs", "clouds below the peak")),
    "harbor": Place("at", False, ("under the nets", "behind the barrels", "near the lighthouse", "beside the anchor"),
                    ("ships at the dock", "sailors with ropes", "nets full of fish")),
    "bakery": Place("in", True, ("under the counter", "behind the oven", "near the bread rack",
                    "beside the sugar bags"),
                    ("loaves on the shelves", "cakes in the window", "trays of warm rolls")),
    "village": Place("in", False, ("near the church", "behind the stone wall", "beside the old pump",
                     "under the bridge lamp"),
                     ("houses with red roofs", "neighbors at their doors", "horses in the street")),
    "zoo": Place("at", False, ("near the lions", "behind the monkey house", "under the map sign",
                 "beside the penguins"),
                 ("monkeys on the ropes", "lions behind the fence", "families with cameras")),
    "station": Place("at", True, ("under the ticket desk", "behind the suitcases", "near the platform",
                     "beside the big clock"),
                     ("trains on the tracks", "travelers with bags", "lamps along the platform")),
}  # fmt: skip

TIMES = ("morning", "afternoon", "evening", "night")

WEATHERS = {  # outdoors, then indoors
    "sunny": (("the sun <shine> [brightly|warmly|in a blue sky]", "it <be> [sunny|a sunny day|warm and sunny]"),
              ("[warm |bright |]sunlight <come> through the window", "it <be> [sunny|warm and sunny] outside")),
    "rainy": (("the rain <fall> [softly|hard|without a pause]", "it <be> [raining|rainy and wet|wet from the rain]"),
              ("the rain <tap> on the roof", "it <be> raining [hard|softly|again] outside")),
    "windy": (("the wind <blow> [hard|from the north|through everything]", "it <be> [windy|very windy|a windy day]"),
              ("the wind <shake> the windows", "it <be> [very |]windy outside")),
    "snowy": (("[thick |white |]snow <cover> the ground", "it <be> [snowing|snowing hard|cold and snowy]"),
              ("[thick |white |]snow <cover> the roof", "it <be> snowing [hard|softly|] outside")),
    "foggy": (("[gray |thick |]fog <hang> in the air", "it <be> [foggy|so foggy that nobody <see> far]"),
              ("[gray |thick |]fog <hide> the street", "it <be> [foggy|gray and foggy] outside")),
    "cloudy": (("[gray |dark |heavy |]clouds <cover/p> the sky", "it <be> [cloudy|gray and cloudy]"),
               ("[gray |dark |]clouds <float/p> past the window", "it <be> [cloudy|gray and cloudy] outside")),
    "stormy": (("thunder <roll> in the distance", "a [wild |great |]storm <roar> above"),
               ("thunder <shake> the walls", "a [wild |great |]storm <roar> outside")),
}  # fmt: skip


@dataclass(frozen=True)
class Mood:
    words: tuple[str, ...]
    shows: tuple[str, ...]  # verb phrases
    reasons: tuple[str, ...]


MOODS = {
    "happy": Mood(("happy", "cheerful", "glad"), ("<smile> at everyone", "<hum> a merry song", "<skip> along",
                  "<grin> from ear to ear"),
                  ("it <be> {a_his} birthday", "{a_his} favorite day <be> here", "{a_his} grandmother <be> visiting")),
    "sad": Mood(("sad", "unhappy", "gloomy"), ("<wipe> away a tear", "<hang> {a_his} head", "<sigh> deeply",
                "<walk> with slow steps"),
                ("{a_his} best friend <be> moving away", "nobody <remember> {a_his} birthday",
                 "{a_his} goldfish <be> ill")),
    "angry": Mood(("angry", "furious", "cross"), ("<stamp> {a_his} foot", "<frown> at everything", "<kick> a stone",
                  "<clench> {a_his} teeth"),
                  ("{a_his} brother <have> eaten the last cookie", "somebody <have> laughed at {a_him}",
                   "nothing <be> fair")),
    "scared": Mood(("scared", "afraid", "frightened"), ("<tremble> a little", "<look> around nervously",
                   "<jump> at every sound",
                   "<hide> {a_his} face"), ("a strange shadow <be> near", "everything <look> so big",
                   "{a_he} <have> had a bad dream")),
    "calm": Mood(("calm", "peaceful", "relaxed"), ("<breathe> slowly", "<watch> the sky for a while",
                 "<stretch> and <yawn>",
                 "<rest> with closed eyes"), ("there <be> no hurry", "all the work <be> done",
                 "everything <be> quiet")),
    "lonely": Mood(("lonely", "alone and forgotten", "left out"), ("<talk> to {a_his} own shadow",
                   "<wait> for somebody to come",
                   "<count> {a_his} steps alone", "<look> for company"),
                   ("{a_his} family <be> far away", "nobody <want> to play", "all the others <be/p> on a trip")),
    "bored": Mood(("bored", "tired of everything", "restless"), ("<tap> {a_his} foot", "<stare> at nothing",
                  "<count> the clouds",
                  "<drag> {a_his} feet"), ("nothing new <happen>", "all the games <be> dull", "the day <be> too long")),
    "curious": Mood(("curious", "full of questions", "eager to learn"), ("<look> into every corner",
                    "<ask> about everything",
                    "<peek> behind every door", "<listen> carefully"),
                    ("everything <be> new", "somebody <have> told {a_him} a secret", "there <be> so much to see")),
}  # fmt: skip
