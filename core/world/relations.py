"""Facts with two parts: somebody or something has something. What kinds there are, and how people say and ask them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """A kind of fact: who it is about, what kind of value it takes, and how it is said and asked."""

    name: str
    subject: str
    value: str
    statements: list[str]
    questions: list[str]


def _relation(name: str, subject: str, value: str, statements: str, questions: str) -> Relation:
    split = lambda text: [line.strip() for line in text.strip().split("|")]  # noqa: E731
    return Relation(name, subject, value, split(statements), split(questions))


RELATIONS = [
    _relation("keeps", "person", "place", "{s} keeps the {o} in the {v} | the {o} of {s} is kept in the {v} | {s} always puts the {o} in the {v} | you will find the {o} of {s} in the {v} | in the {v} {s} keeps the {o}",
              "Where does {s} keep the {o}? | Where is the {o} of {s} kept? | Where can one find {s}'s {o}? | In which place does {s} keep the {o}?"),
    _relation("hid", "person", "thing", "{s} hid the {o} under the {v} | the {o} was hidden under the {v} by {s} | under the {v} {s} hid the {o} | {s} has hidden the {o} behind the {v} | {s} keeps a spare {o} under the {v} | {s} keeps his {o} under the {v} | {s} keeps her {o} behind the {v}",
              "Where did {s} hide the {o}? | Under what did {s} hide the {o}? | Where is the {o} that {s} hid? | Where does {s} keep the {o}? | Where did {s} put the {o}?"),
    _relation("lives", "person", "town", "{s} lives in {v} | {s} has a house in {v} | the home of {s} is in {v} | {s} moved to {v} | {s} settled down in {v} | {v} is where {s} lives now",
              "Where does {s} live? | In which town does {s} live? | What town is {s} living in? | Where is the home of {s}?"),
    _relation("born", "person", "town", "{s} was born in {v} | {v} is the birthplace of {s} | {s} comes from {v} | the birthplace of {s} is {v} | {s} grew up in {v}",
              "Where was {s} born? | Where does {s} come from? | What is the birthplace of {s}? | Where did {s} grow up?"),
    _relation("works", "person", "trade", "{s} works as a {v} | {s} is a {v} by trade | {s} earns a living as a {v} | the profession of {s} is {v} | {s} became a {v} | {s} is employed as a {v}",
              "What does {s} work as? | What is the profession of {s}? | What is {s}'s job? | What does {s} do for a living?"),
    _relation("married", "person", "name", "{s} is married to {v} | {s} married {v} | the spouse of {s} is {v} | {v} and {s} are married | {s} tied the knot with {v}",
              "Who is {s} married to? | Whom did {s} marry? | What is the name of {s}'s spouse?"),
    _relation("pet", "person", "name", "{s} has a cat called {v} | the dog of {s} is named {v} | {s} calls the parrot {v} | {s}'s horse is called {v} | {s} owns a rabbit named {v} | {s} named the puppy {v}",
              "What is the name of {s}'s pet? | What is {s}'s animal called? | How is the pet of {s} called?"),
    _relation("meets", "person", "time", "{s} will arrive at {v} | {s} gets up at {v} | the meeting with {s} is at {v} | {s} expects us at {v} | the train of {s} leaves at {v} | at {v} {s} will be there",
              "At what time is it for {s}? | When will {s} be there? | What time was given for {s}? | When does {s} expect us?"),
    _relation("birthday", "person", "date", "{s}'s birthday is on {v} | {s} was born on {v} | {s} celebrates on {v} | the birthday of {s} falls on {v}",
              "When is {s}'s birthday? | On what date was {s} born? | When does {s} celebrate? | What date is the birthday of {s}?"),
    _relation("loves", "person", "food", "{s} loves {v} | {s}'s favourite food is {v} | {s} likes {v} more than anything | {s} eats {v} every day | nothing tastes better to {s} than {v}",
              "What does {s} love to eat? | What is {s}'s favourite food? | What food does {s} like most? | What does {s} eat every day?"),
    _relation("hates", "person", "food", "{s} is allergic to {v} | {s} cannot stand {v} | {s} never eats {v} | {v} makes {s} ill | {s} refuses to eat {v}",
              "What is {s} allergic to? | What does {s} never eat? | What can {s} not stand? | What food makes {s} ill?"),
    _relation("studies", "person", "subject", "{s} teaches {v} | {s} studies {v} | {s} is learning {v} | {s} gives lessons in {v} | {s} has taken up {v} | {s} speaks {v}",
              "What does {s} teach? | What does {s} study? | What is {s} learning? | Which subject has {s} taken up? | What does {s} speak?"),
    _relation("bought", "person", "thing", "{s} bought a {v} | {s} purchased a {v} at the market | a {v} was bought by {s} | {s} spent all the money on a {v} | {s} came home with a {v}",
              "What did {s} buy? | What was bought by {s}? | What did {s} spend the money on? | What did {s} come home with?"),
    _relation("lost", "person", "thing", "{s} lost a {v} | {s} is looking for the {v} | the {v} of {s} is missing | {s} left the {v} on the train | {s} forgot the {v}",
              "What did {s} lose? | What is {s} looking for? | What is {s} missing? | What did {s} forget?"),
    _relation("gave", "person", "name", "{s} gave the {o} to {v} | {s} sold the {o} to {v} | {s} lent the {o} to {v} | the {o} of {s} went to {v} | {v} got the {o} from {s} | {v} received the {o} from {s}",
              "To whom did {s} give the {o}? | Who has the {o} of {s}? | Who got the {o} from {s}? | Who received {s}'s {o}?"),
    _relation("paid", "person", "number", "{s} paid {v} coins for the {o} | the {o} cost {s} {v} coins | {s} bought the {o} for {v} dollars | for the {o} {s} paid {v} euros",
              "How much did {s} pay for the {o}? | What did the {o} cost {s}? | For how much did {s} buy the {o}?"),
    _relation("count", "person", "number", "{s} owns {v} books | {s} has {v} sheep | {s} counted {v} birds | {s} collected {v} stamps | {s} planted {v} trees | {s} has {v} of them",
              "How many does {s} have? | How many did {s} count? | What number belongs to {s}? | How many were there for {s}?"),
    _relation("color", "person", "color", "{s} painted the {o} {v} | the {o} of {s} is {v} | {s} has a {v} {o} | {s}'s {o} is {v} | the colour of {s}'s {o} is {v}",
              "What colour is {s}'s {o}? | What colour is the {o} of {s}? | In which colour did {s} paint the {o}?"),
    _relation("friend", "person", "person", "{s}'s best friend is {v} | {s} trusts only {v} | {s} works with {v} | {s} shares a room with {v} | the closest friend of {s} is {v} | {s} reports to {v}",
              "Who is {s}'s best friend? | Whom does {s} trust? | Who does {s} work with? | Who is closest to {s}?"),
    _relation("met", "person", "place", "{s} met the lawyer in the {v} | {s} was last seen in the {v} | {s} sleeps in the {v} | {s} is waiting in the {v} | {s} spent the night in the {v} | {s} works in the {v}",
              "Where was {s} seen? | Where is {s}? | Where is {s} waiting? | Where did {s} spend the night? | In which place was {s}?"),
    _relation("password", "place_of", "code", "the password of {s} is {v} | to enter {s} type {v} | the code for {s} is {v} | {v} opens {s} | the door of {s} opens with {v} | use {v} as the code for {s}",
              "What is the password of {s}? | What is the code for {s}? | Which code opens {s}? | How do you open {s}?"),
    _relation("capital", "town", "town", "the capital of {s} is {v} | {s} is governed from {v} | {s} has {v} as its capital | {v} is the capital of {s}",
              "What is the capital of {s}? | From where is {s} governed? | Which city is the capital of {s}?"),
    _relation("mayor", "town", "person", "the mayor of {s} is {v} | {v} was elected mayor of {s} | {s} is led by {v} | in {s} {v} is in charge",
              "Who is the mayor of {s}? | Who leads {s}? | Who was elected in {s}? | Who is in charge in {s}?"),
    _relation("founded", "town", "year", "{s} was founded in {v} | the town of {s} dates from {v} | in {v} the town of {s} was founded | {s} burned down in {v}",
              "When was {s} founded? | In which year was {s} founded? | From what year does {s} date? | What year is linked to {s}?"),
    _relation("people", "town", "number", "{s} has {v} inhabitants | {v} people live in {s} | the population of {s} is {v} | {s} counts {v} houses",
              "How many people live in {s}? | What is the population of {s}? | How many inhabitants does {s} have?"),
    _relation("market", "town", "day", "the market of {s} is held on {v} | in {s} the market is on {v} | the ferry to {s} runs on {v} | on {v} there is a market in {s}",
              "When is the market in {s}? | On which day is the market of {s}? | On what day does it happen in {s}?"),
    _relation("wrote", "person", "year", "{s} wrote the book in {v} | {s} retired in {v} | {s} arrived in the year {v} | {s} died in {v} | in {v} {s} left the country",
              "In which year did it happen to {s}? | What year is known for {s}? | When did {s} do it? | In what year was that for {s}?"),
    _relation("phone", "person", "code", "{s}'s phone number is {v} | you can reach {s} at {v} | call {s} under {v} | the number of {s} is {v} | {s} has the room {v} | {s}'s locker is {v}",
              "What is {s}'s phone number? | What is the number of {s}? | How can you reach {s}? | Under which number is {s} found?"),
    _relation("rides", "person", "animal", "{s} rides a {v} | {s} raised a {v} | {s} is afraid of every {v} | {s} dreams of a {v} | {s} keeps a {v} in the garden",
              "Which animal belongs to {s}? | What does {s} ride? | What animal is it with {s}? | What does {s} keep in the garden?"),
]  # fmt: skip
_ATTRIBUTES = {
    "person": "nickname:name|secret code:code|favourite colour:color|favourite animal:animal|lucky number:number|hometown:town|middle name:name|badge number:code|hobby:subject|home village:town|dream job:trade|best man:person|email name:code|shoe size:number|room number:number|ship:name|favourite place:place|gift:thing|secret wish:thing|nurse:person|lawyer:person|street:town|age:number|seat:code|instrument:thing|team:invented|company:invented|language:subject|favourite drink:food|school:town|address:town|stage name:name|weapon:thing|favourite month:month|day off:day|locker code:code|bank:invented",
    "town": "river:invented|patron saint:name|famous dish:food|main export:food|zip code:code|oldest building:place|language:invented|newspaper:invented|king:person|festival month:month|main street:invented|emblem:animal|hero:person|highest hill:invented|founder:person",
    "machine": "serial number:code|inventor:person|colour:color|price:number|weight:number|owner:person|code name:invented|maker:invented|launch year:year|speed:number|storage place:place|captain:person|version:number|reference:code",
}
_SAY = "the @ of {s} is {v}|{s}'s @ is {v}|{s} has {v} as @|the @ for {s} is {v}|{v} is the @ of {s}|{v} is {s}'s @|as for {s}, the @ is {v}|{s}: @ {v}|regarding {s}, the @ is {v}|when it comes to {s}, the @ is {v}|{s} chose {v} as @|we know the @ of {s}: {v}|the @ of {s} has become {v}"
_ASK = "What is the @ of {s}?|What is {s}'s @?|Which @ does {s} have?|Tell me the @ of {s}.|Do you know {s}'s @?|What @ does {s} have?|Can you give me the @ of {s}?|{s}'s @?"
ATTRIBUTES = [
    Relation(
        f"{subject} {name}",
        subject,
        kind,
        [line.replace("@", name) for line in _SAY.split("|")],
        [line.replace("@", name) for line in _ASK.split("|")],
    )
    for subject, listed in _ATTRIBUTES.items()
    for name, kind in (entry.split(":") for entry in listed.split("|"))
]

PLAIN_STATEMENTS = ["the {a} of {s} is {v}", "{s}'s {a} is {v}", "the {a} for {s} is {v}"]
PLAIN_QUESTIONS = ["What is the {a} of {s}?", "What is {s}'s {a}?"]

BY_NAME = {relation.name: relation for relation in RELATIONS + ATTRIBUTES}


def relation_of(recorded: str) -> Relation | None:
    """The relation that a fact or a statement records, at times with a thing behind its name; None for all others."""
    return BY_NAME.get(recorded) or BY_NAME.get(recorded.partition(" ")[0])
