"""Verbs in all their forms, by what can stand beside them; and other words that the grammar needs."""

# ruff: noqa: SIM905 - a list of words reads better as a text

from typing import NamedTuple


class Verb(NamedTuple):
    base: str
    third: str
    past: str
    participle: str
    ing: str


def conjugate(entry: str) -> Verb:
    """From "find found found" or, where it is regular, from "paint"; a verb may end in other words: "look for"."""
    forms, _, after = entry.partition("+")
    base, past, participle = (*forms.split(), "", "")[:3]
    stem = base[:-1] if base.endswith("e") else base
    short = base[:-1] + "i" if base[-1] == "y" and base[-2] not in "aeiou" else ""
    double = base + base[-1] if base in DOUBLED else stem
    third = short + "es" if short else base + ("es" if base.endswith(("s", "sh", "ch", "x", "z", "o")) else "s")
    past = past or (short or double) + "ed"
    ing = (base[:-2] + "ying") if base in ("die", "lie", "tie") else double + "ing"
    if base in ("see", "dye", "free"):
        ing = base + "ing"
    tail = f" {after}" if after else ""
    return Verb(*(form + tail for form in (base, third, past, participle or past, ing)))


DOUBLED = (
    "plan stop drop wrap hug rob trap grab ship trim scrub pin tag knit nod sit run swim win cut dig put get hit let "
    "set begin forget spin chop map rip slip tip zip plug".split()
)
THING_VERBS = [conjugate(entry) for entry in (
    "find found found|hide hid hidden|sell sold sold|buy bought bought|steal stole stolen|break broke broken|"
    "lose lost lost|keep kept kept|build built built|bring brought brought|eat ate eaten|drink drank drunk|"
    "grow grew grown|breed bred bred|sing sang sung|write wrote written|read read read|draw drew drawn|"
    "lend lent lent|sew sewed sewn|throw threw thrown|catch caught caught|feed fed fed|ride rode ridden|"
    "drive drove driven|wear wore worn|forget forgot forgotten|leave left left|take took taken|see saw seen|"
    "hear heard heard|choose chose chosen|win won won|spend spent spent|send sent sent|cut cut cut|dig dug dug+up|"
    "hang hung hung|hold held held|hit hit hit|shake shook shaken|tear tore torn|make made made|get got got|"
    "give gave given+away|put put put+away|set set set+up|fly flew flown|swing swung swung|teach taught taught|"
    "speak spoke spoken|understand understood understood|know knew known|show showed shown|forgive forgave forgiven|"
    "repair|paint|carry|store|bake|cook|plant|collect|study|play|film|design|invent|order|rent|borrow|wash|clean|"
    "knit|polish|bury|drop|hunt|park|want|need|prefer|hate|love|avoid|fear|admire|discover|guard|open|close|lock|"
    "watch|pick|earn|save|promise|describe|photograph|translate|deliver|ship|receive|return|replace|remove|burn|"
    "fold|kick|lift|load|measure|mend|mix|move|pack|peel|pour|pull|push|roast|serve|smell|smoke|spill|steer|touch|"
    "trade|wrap|weave wove woven|cross|climb|enter|explore|destroy|damage|rescue|inspect|test|restore|decorate|"
    "publish|record|compose|conduct|organise|cancel|miss|plan|mention|recommend|review|taste|try|use|waste|count|"
    "scrub|tag|map|chop|plug+in|look+for|ask+for|wait+for|care+for|search+for|dream+of|complain+about|talk+about|"
    "laugh+at|listen+to|work+on|point+at|pay paid paid+for|think thought thought+of|bump+into|believe+in|pick+up|"
    "throw threw thrown+out|take took taken+apart|run ran run+out of|get got got+rid of|fall fell fallen+off"
).split("|")]  # fmt: skip
PERSON_VERBS = [conjugate(entry) for entry in (
    "meet met met|marry|help|call|teach taught taught|train|thank|invite|elect|hire|fire|follow|hug|accuse|interview|"
    "rescue|visit|warn|phone|replace|choose chose chosen|beat beat beaten|see saw seen|forgive forgave forgiven|"
    "find found found|leave left left|raise|cure|treat|paint|photograph|arrest|question|trust|blame|praise|support|"
    "greet|kiss|defeat|introduce|recognise|annoy|surprise|work+for|wait+for|vote+for|look+after|argue+with|"
    "dance+with|live+with|play+against|write wrote written+to|apologise+to|lie+to|stay+with|fall fell fallen+out with"
).split("|")]  # fmt: skip
STAYING_VERBS = [conjugate(entry) for entry in (
    "live|work|sleep slept slept|swim swam swum|arrive|sit sat sat|stand stood stood|stay|wait|land|sink sank sunk|"
    "crash|sing sang sung|dance|retire|stop|start|run ran run|rehearse|perform|graduate|practise|fish|camp|park|"
    "study|dine|shop|teach taught taught|settle|vanish|appear|hide hid hidden|rest|train|meet met met|speak spoke "
    "spoken|win won won|lose lost lost|fall fell fallen|grow grew grown+up|break broke broken+down|wake woke woken+up|"
    "end+up|get got got+lost|get got got+married|get got got+stuck|go went gone+fishing|celebrate|propose|die"
).split("|")]  # fmt: skip
GIVING_VERBS = [conjugate(entry) for entry in (
    "give gave given|lend lent lent|sell sold sold|send sent sent|show showed shown|feed fed fed|owe|pay paid paid|"
    "promise|offer|teach taught taught|tell told told|read read read|bring brought brought|buy bought bought|bake|"
    "leave left left|hand|write wrote written|cook|serve|grant"
).split("|")]  # fmt: skip
STATES = (
    "about|made of|full of|afraid of|allergic to|famous for|named after|good at|next to|based on|covered with|close "
    "to|proud of|tired of|part of|ready for|responsible for|related to|addicted to|fond of|known for|filled with|"
    "inspired by|written for|tied to|stuck to|engaged to|married to|jealous of|sewn into|hidden behind|locked in|"
    "decorated with|painted with|wrapped in|served with|due to|painted by|reserved for|meant for|dedicated to"
).split("|")
MEASURES = {
    ("weighs", "weigh"): "kilos grams pounds tons", ("costs", "cost"): "euros dollars pounds crowns coins francs",
    ("takes", "take"): "minutes hours days weeks", ("holds", "hold"): "litres people guests barrels books cups",
    ("measures", "measure"): "metres inches feet centimetres", ("lasts", "last"): "minutes hours days weeks months",
    ("needs", "need"): "eggs nails screws batteries spoons", ("charges", "charge"): "euros dollars pounds crowns",
    ("earns", "earn"): "euros dollars pounds coins", ("has", "have"): "rooms legs pages windows strings chapters",
}  # fmt: skip
"""A verb with third person and base, and the units that go with it."""
CLASSES = (
    "gate platform level room bus train shelf drawer locker seat table chapter page row pier track exit floor house "
    "flat lane road route box tent cabin ward desk stage hall bench tram line aisle corridor counter cage"
).split()
SETTLEMENTS = "village town city island valley port county suburb region harbour district".split()
CONDITIONS = "closed dark empty open broken missing ill retired blind silent dry frozen lost abroad away".split()
VEHICLES = (
    "bus tram train ferry boat bicycle taxi sledge mule helicopter plane ship motorbike lorry canoe barge letter phone "
    "e-mail post telegram fax radio hand candlelight ear"
).split()
MOODS = (
    "silence|secret|tears|a hurry|the dark|person|writing|pairs|one go|great style|rhyme|Latin|pencil|his slippers|"
    "her sleep|a whisper|small steps|good faith|broad daylight|pieces"
).split("|")
ADVERBS = (
    "slowly|barefoot|on foot|on tiptoe|upside down|by heart|backwards|on horseback|at a gallop|bit by bit|politely|"
    "carefully|one-handed|half asleep|step by step|very quietly|as usual|with great care"
).split("|")
MOTIVES = "pity spite boredom fear habit curiosity politeness love greed envy loyalty vanity thrift gratitude".split()
