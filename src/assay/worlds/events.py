"""What happens in storyworld: each event is a short script of beats in the little language of `grammar`.

A beat says one thing in one of several ways, told or in direct speech. Every first beat names the object with its
colour (`{cobj}`). {A} and {B} are a name or "the fox"; {An} and {Bn} are always the name; {C} is a passer-by.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Beat:
    told: tuple[str, ...]
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    beats: tuple[Beat, ...]
    good: tuple[Beat, ...]
    bad: tuple[Beat, ...]
    stranger: bool = False  # {C} takes part
    second: bool = False  # a second object {cobj2} takes part


EVENTS = {
    "lost": Event(
        beats=(
            Beat(("{A} <want> to {use} {a_his} {cobj}, but it <be> gone.",
                  "[Suddenly|Then] {A} <notice> that {a_his} {cobj} <be> missing.",
                  "{A} <look> into {a_his} bag, but {a_his} {cobj} <not be> there.")),
            Beat(("{B} <see> {a_him} searching and <offer> to help.",
                  "{A} <tell> {B} about it, and they <begin/p> to search."),
                 ('"I lost my {cobj}," {asays}. "[Can you help me?|Did you see it?|Please help me look.]"',
                  '"What are you looking for?" {B} <ask>. "[My {obj}|My {cobj}]," {asays}.')),
            Beat(("They <look/p> {spot} and {spot2}.", "First they <search/p> {spot}, then {spot2}."),
                 ('"Let us look {spot}," {bsays}.',
                  '"I already looked {spot2}," {asays}. "[It is not there.|I found nothing.]"')),
        ),
        good=(Beat(("At last {B} <find> {the_obj} {spot}.",
              "In the end {the_obj} <be> {spot}, [safe and clean|just a little wet|covered with leaves]."),
                   ('"Here it is! Your {obj} was {spot}," {B} <shout>.',)),
              Beat(("{A} <hug> {B} and <thank> {b_him}.", "{A} <hold> {the_obj} tightly and <thank> {B}."),)),
        bad=(Beat(("They <search/p> for [hours|a long time], but {the_obj} <be> gone.",
             "They <not find/p> {the_obj} anywhere."),
                  ('"I think it is gone," {bsays}. "[I am sorry.|What a pity.]"',)),
             Beat(("{A} <go> home without {a_his} {obj}.", "{A} <have> to leave without {the_obj}."),)),
    ),
    "found": Event(
        beats=(
            Beat(("{A} <see> something {spot}. It <be> {new_obj}.", "{spot} {A} <find> {new_obj}.",
                  "{A} <trip> over {new_obj} that <lie/s> {spot}.")),
            Beat(("{A} <wonder> who <have> lost it.", "There <be> no name on {the_obj}."),
                 ('"[Whose {obj} is this?|Who lost this {obj}?]" {A} <ask>.',)),
            Beat(("Then {B} <come> along, looking for a {cobj}.", "Not far away {B} <be> searching for {b_his} {obj}."),
                 ('"Have you seen a {cobj}?" {B} <ask>. "It is mine."',
                  '"That {obj} is mine," {B} <say>. "I dropped it {spot2}."')),
        ),
        good=(Beat(("{A} <give> {the_obj} back at once.", "{A} <hand> {the_obj} to {B} with a smile."),
                   ('"Then take it, please," {asays}. "[It belongs to you.|I am glad I found it.]"',)),
              Beat(("{B} <be> so grateful that {b_he} <let> {A} {use} it too.",
                    "{B} <thank> {A} [many times|with all {b_his} heart]."),)),
        bad=(Beat(("{A} <hide> {the_obj} and <say> nothing.", "But {A} <keep> {the_obj} and <run> away."),
                  ('"No, I found it, so it is mine now," {asays}.',)),
             Beat(("{B} <leave> with empty hands.", "{B} <cry> and <walk> away alone."),)),
    ),
    "quarrel": Event(
        beats=(
            Beat(("{A} and {B} both <want/p> to {use} the {cobj}.",
                  "There <be> only one {cobj}, and {A} and {B} both <want/p> it.")),
            Beat(("{A} <pull> {the_obj} away from {B}.", "{B} <grab> {the_obj} first, and {A} <grab> it too."),
                 ('"Give it to me!" {A} <shout>. "I had it first!"',
                  '"It is my turn," {bsays}. "No, it is mine," {asays}.')),
            Beat(("They <pull/p> and <push/p> until {the_obj} <fall> to the ground.",
                  "Everybody <turn> around to see the fight.")),
        ),
        good=(Beat(("Then {A} <have> an idea: they <take/p> turns.",
              "After a while {A} <let> {the_obj} go and <say> sorry."),
                   ('"We can take turns," {asays}. "You may {use} it first."',
                    '"I am sorry," {asays}. "Let us {use} it together."')),
              Beat(("{B} <agree>, and they <play/p> together until the end of the day.",
                    "Soon they <laugh/p> together and <{use}/p> {the_obj} side by side."),)),
        bad=(Beat(("{B} <take> {the_obj} and <leave> without a word.", "{A} <take> {the_obj} and <refuse> to share."),
                  ('"I never want to play with you again," {bsays}.',)),
             Beat(("They <not speak/p> to each other for the rest of the day.", "{A} <sit> alone and <feel> bad."),)),
    ),
    "broken": Event(
        beats=(
            Beat(("{A} <show> {B} {a_his} {cobj}.", "{A} <bring> {a_his} {cobj} to {use} it with {B}.")),
            Beat(("{B} <drop> {the_obj} by accident.", "{B} <slip>, and {the_obj} <hit> the ground.",
                  "{B} <not be> careful, and {the_obj} <fall> down.")),
            Beat(("Now {the_obj} <be> {broken}.", "{A} <see> that {the_obj} <be> {broken}."),
                 ('"Oh no, my {obj} is {broken}!" {A} <cry>.',
                  '"You broke my {obj}," {asays}. "Look, it is {broken}."')),
        ),
        good=(Beat(("{B} <fetch> [glue and string|some tools|a box of tools] and <repair> it.",
              "Together they <repair/p> {the_obj} with [glue|string|tape]."),
                   ('"I am so sorry. I can repair it," {bsays}.',)),
              Beat(("Soon {the_obj} <be> as good as new.",
                    "Then {A} <can> {use} it again, and {a_he} <forgive> {B}."),)),
        bad=(Beat(("{B} <try> to repair it, but it <be> too late.", "Nobody <know> how to repair it."),
                  ('"It was not my fault," {bsays}.', '"I cannot repair it," {bsays}.')),
             Beat(("{A} <throw> the pieces away.", "{A} <carry> the broken {obj} home and <not forgive> {B}."),)),
    ),
    "gift": Event(
        beats=(
            Beat(("{A} <have> a present for {B}: {new_obj}.", "{A} <bring> {new_obj} as a gift for {B}.",
                  "{A} <buy> {new_obj} for {B}.")),
            Beat(("{B} <unwrap> it [slowly|quickly|with care].", "{A} <put> it into the hands of {B}."),
                 ('"This is for you," {asays}. "[I hope you like it.|Open it!]"', '"Happy birthday!" {A} <shout>.')),
        ),
        good=(Beat(("{B} <love> {the_obj}.", "{B} <jump> for joy and <begin> to {use} it at once."),
                   ('"I always wanted a {obj}!" {B} <shout>.', '"What a beautiful {obj}! Thank you," {bsays}.')),
              Beat(("They <take/p> turns to {use} it for the rest of {the_time}.",
                    "{B} <hug> {A} and <not stop> smiling."),)),
        bad=(Beat(("But {B} already <have> a {cobj} at home.", "But {B} <not like> {the_obj} at all."),
                  ('"I already have a {obj}," {bsays}.', '"I do not like {colour}," {bsays}.')),
             Beat(("{A} <take> the present back and <turn> away.", "{A} <try> not to show how much it <hurt>."),)),
    ),
    "race": Event(
        beats=(
            Beat(("There <be> a race, and the prize <be> {new_obj}.", "{A} and {B} <run/p> a race to win {new_obj}.")),
            Beat(("They <start/p> {spot} and <run/p> as fast as the wind.",
                  "At the start {B} <be> [a little|much] faster."),
                 ('"I will beat you," {bsays}. "We will see," {asays}.', '"Ready, steady, go!" {A} <shout>.')),
            Beat(("They <pass/p> {sight}.", "{A} <slip> but <get> up again."),),
        ),
        good=(Beat(("{A} <reach> the end first and <win> the {cobj}.", "With a last jump {A} <win> the race."),
                   ('"I won! The {obj} is mine!" {A} <shout>.',)),
              Beat(("{B} <shake> {a_his} hand and <laugh>.", "{A} <lift> {the_obj} high, and everybody <clap>."),)),
        bad=(Beat(("{B} <reach> the end first and <win> the {cobj}.", "{A} <fall> {spot2} and <lose> the race."),
                  ('"I won! The {obj} is mine!" {B} <shout>.',)),
             Beat(("{A} <not congratulate> {B}.", "{A} <walk> away with dust on {a_his} face."),)),
    ),
    "rescue": Event(
        beats=(
            Beat(("{A} <carry> {new_obj} along when {a_he} <hear/s> a cry.",
                  "{A} <want> to {use} {a_his} {cobj} when somebody <call/s> for help.")),
            Beat(("It <be> {B}, who <be> stuck {spot}.", "{B} <have> hurt {b_his} leg {spot}."),
                 ('"Help! I am stuck {spot}!" {B} <shout>.', '"Please help me, I cannot move," {bsays}.')),
            Beat(("{A} <hold> out {the_obj} so that {B} <can> grab it.",
                  "{A} <use> {the_obj} to [reach|pull|help] {b_him}."),),
        ),
        good=(Beat(("{A} <pull> with all {a_his} strength, and {B} <be> free.",
              "After three tries {B} <be> safe again."),
                   ('"You saved me," {bsays}. "[You are a true friend.|I will never forget it.]"',)),
              Beat(("From then on they <be/p> best friends.",
                    "They <go/p> to drink [hot tea|warm milk|sweet juice] together."),)),
        bad=(Beat(("But {the_obj} <break>, and now both of them <be/p> stuck.", "But {A} <not be> strong enough."),
                  ('"It does not work," {asays}. "I must get somebody."',)),
             Beat(("They <have/p> to wait until [a farmer|a guard|a doctor] <come/s>.",
                   "{B} <have> to stay there until [late|dark|the next day]."),)),
    ),
    "hiding": Event(
        beats=(
            Beat(("{A} <hide> {a_his} {cobj} {spot}, and {B} <have> to find it.",
                  "They <play/p> a game: {A} <hide> the {cobj} and {B} <look> for it.")),
            Beat(("{B} <close> {b_his} eyes and <count> to [ten|twenty|fifty].", "{B} <look> {spot2} first."),
                 ('"Is it {spot2}?" {B} <ask>. "[No, you are cold|Not at all|No, try again]," {asays}.',
                  '"You will never find it," {asays}.')),
            Beat(("{A} <laugh> quietly and <wait>.", "{A} <whistle> and <pretend> to look away."),),
        ),
        good=(Beat(("Then {B} <see> something {colour} {spot}.", "{B} <find> {the_obj} {spot} after a while."),
                   ('"I see something {colour}!" {B} <shout>. "Found it!"',)),
              Beat(("Now it <be> {b_his} turn to hide it.", "They <laugh/p> and <play/p> the game again."),)),
        bad=(Beat(("{B} <give> up, but now {A} <not remember> the place either.",
             "{B} <get> tired and <go> home in the middle of the game."),
                  ('"This game is stupid," {bsays}. "I am going home."',)),
             Beat(("{the_obj} <stay> {spot} all night.", "{A} <have> to search for {the_obj} alone."),)),
    ),
    "trade": Event(
        beats=(
            Beat(("{A} <have> a {cobj}, but {a_he} <want> a {cobj2}.",
                  "{A} <be> tired of {a_his} {cobj} and <dream> of a {cobj2}.")),
            Beat(("{B} <have> just what {a_he} <want/s>.", "{B} <come> along with a {cobj2}."),
                 ('"I will give you my {obj} for your {obj2}," {asays}.',
                  '"Shall we trade?" {A} <ask>. "My {obj} for your {obj2}?"')),
            Beat(("{B} <look> at {the_obj} for a long time.", "{B} <scratch> {b_his} head and <think>."),
                  ('"Let me think about it," {bsays}.',)),
        ),
        good=(Beat(("In the end {B} <agree>, and they <trade/p>.", "They <shake/p> hands and <trade/p>."),
              ('"It is a deal," {bsays}.',)),
              Beat(("Now {A} <can> {use2} the {obj2}, and {B} <can> {use} the {obj}.",
                    "Both <think/p> that they <have/p> made the better trade."),)),
        bad=(Beat(("But {B} <want> to keep the {obj2}.", "They <trade/p>, but the {obj2} <be> {broken2}."),
                  ('"No, my {obj2} is worth more," {bsays}.',)),
             Beat(("{A} <kick> the ground and <go> home.", "{A} <wish> for something better."),)),
        second=True,
    ),
    "lesson": Event(
        beats=(
            Beat(("{A} <have> {new_obj} but <not know> how to {use} it.",
                  "{A} <want> to learn how to {use} the {cobj}.")),
            Beat(("{B} <promise> to teach {a_him}.", "{B} <show> {a_him} how to do it, step by step."),
                 ('"I can teach you," {bsays}. "[It is easy.|It takes some time.|Watch me.]"',
                  '"How do you {use} a {obj}?" {A} <ask>.')),
            Beat(("{A} <try> once, twice, three times.", "The first try <go> wrong, and the second one too."),
                  ('"It is too hard," {asays}. "Try again," {bsays}.',)),
        ),
        good=(Beat(("Then it <work>.", "At last {A} <can> {use} {the_obj} all alone."),
              ('"Look, I can do it!" {A} <shout>.',)),
              Beat(("{B} <be> proud of {a_him}.", "{A} <practice> until {the_time} <be> over."),)),
        bad=(Beat(("But {A} <not listen> and <give> up.", "In the end {A} <throw> {the_obj} away."),
             ('"I will never learn it," {asays}.',)),
             Beat(("{B} <shake> {b_his} head.", "{B} <be> disappointed and <leave>."),)),
    ),
    "theft": Event(
        beats=(
            Beat(("{A} <put> {a_his} {cobj} down {spot}, and {aC} <take> it.",
                  "{aC} <steal> the {cobj} that {A} <have> left {spot}.")),
            Beat(("{A} and {B} <run/p> after {C}.", "{B} <see> it and <follow> {C}."),
                 ('"Stop, thief!" {A} <shout>.', '"I saw who took it," {bsays}. "[Follow me!|We must hurry.]"')),
            Beat(("The chase <go> past {sight}.", "{C} <run> fast, but {B} <know> a short way."),),
        ),
        good=(Beat(("They <catch/p> {C} {spot2} and <get/p> {the_obj} back.",
              "{C} <feel> sorry and <return> {the_obj}."),
                   ('"I am sorry," {C} <say>. "I only wanted to {use} it once."',)),
              Beat(("{A} <let> {C} {use} it for a minute.", "{A} and {B} <be/p> heroes for a day."),)),
        bad=(Beat(("But {C} <be> too fast and <get> away.", "They <lose/p> {C} {spot2}."),
             ('"We were too slow," {bsays}.',)),
             Beat(("{A} <not see> {the_obj} again.", "{A} <tell> a guard, but it <not help>."),)),
        stranger=True,
    ),
    "noise": Event(
        beats=(
            Beat(("{A} <be> about to {use} {a_his} {cobj} when {a_he} <hear/s> a noise {spot}.",
                  "A strange noise <come> from somewhere {spot}, and {A} <drop> {a_his} {cobj}.")),
            Beat(("{A} <hold> {a_his} breath and <listen>.", "It <sound> like [a monster|a ghost|a big animal]."),
                 ('"Who is there?" {A} <whisper>.', '"Is it a [monster|ghost|lion]?" {A} <whisper>.')),
            Beat(("{A} <take> one step, then another.", "The noise <grow> louder and louder."),),
        ),
        good=(Beat(("But it <be> only {B}, who <have> lost {b_his} way.", "{B} <jump> out and <laugh>."),
                   ('"It is only me!" {B} <laugh>.', '"Surprise!" {B} <shout>.')),
              Beat(("They <laugh/p> about it and <{use}/p> {the_obj} together.",
                    "{B} <pick> up {the_obj} and <give> it back to {A}."),)),
        bad=(Beat(("{A} <run> away and <leave> {the_obj} behind.", "{A} <be> too afraid to look and <run> home."),
             ('"I want to go home!" {A} <cry>.',)),
             Beat(("Later {B} <find> {the_obj} {spot}, and it <be> {broken}.",
                   "{A} <not know> that it <be> only {B}."),)),
    ),
    "show": Event(
        beats=(
            Beat(("{A} <want> to {use} {a_his} {cobj} in front of a crowd.", "{A} <plan> a show with {a_his} {cobj}.")),
            Beat(("{B} <invite> everyone, and {aC} <sit> in the first row.",
                  "{B} <call> the people together, and even {aC} <come>."),
                 ('"Come and see the show!" {B} <shout>. {aC} <stop> to watch.',)),
            Beat(("{A} <bow> and <begin>.", "{A} <take> a deep breath."),
                  ('"I am so nervous," {asays}. "You can do it," {bsays}.',)),
        ),
        good=(Beat(("Everything <go> well, and {C} <clap> [loudly|for minutes].", "{C} <laugh> and <ask> for more."),
              ('"Bravo! [What a wonderful show!|Well done!]" {C} <shout>.',)),
              Beat(("{C} <give> them [three coins|a bag of nuts|a sweet pie] as thanks.",
                    "{A} and {B} <bow/p> together."),)),
        bad=(Beat(("But {the_obj} <fall>, and {C} <leave> early.", "{A} <forget> everything and <stand> still."),
             ('"How boring," {C} <say> and <leave>.',)),
             Beat(("The show <end> without [clapping|a sound].", "{B} <try> to save the show, but nobody <stay>."),)),
        stranger=True,
    ),
    "wish": Event(
        beats=(
            Beat(("{aC} <give> {A} {new_obj} that <can> grant one wish.",
                  "{A} <help> {aC} and <get> {new_obj} with magic in it.")),
            Beat(("{B} <not believe> it.", "{A} <tell> {B} about the magic."),
                  ('"This {obj} grants one wish," {C} <say>. "[Be careful.|Use it well.]"',
                  '"What will you wish for?" {B} <ask>.')),
            Beat(("{A} <rub> {the_obj} three times.",
                  "{A} <close> {a_his} eyes and <wish> for [a feast|a flying horse|a mountain of sweets]."),),
        ),
        good=(Beat(("There <be> a flash, and the wish <come> true.",
              "It <work>, and {A} <share> everything with {B}."), ('"It works!" {A} <shout>.',
              '"It is really magic," {bsays}.')),
              Beat(("{A} <keep> {the_obj} as a treasure.", "They <thank/p> {C} with [a song|a cake|flowers]."),)),
        bad=(Beat(("But nothing <happen>.", "There <be> only smoke, and then {the_obj} <be> {broken}."),
             ('"It was a lie. [Nothing happens.|It does not work.]" {A} <shout>.',
             '"It does not work. I told you so," {bsays}.')),
             Beat(("{C} <laugh> at them and <leave>.", "{A} <bury> {the_obj} {spot2} and <forget> it."),)),
        stranger=True,
    ),
}  # fmt: skip
