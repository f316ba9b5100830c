"""Numbers, prices, times and dates in the many forms in which people write them: 7, seven, half past seven, £7.50."""

# ruff: noqa: SIM905 - a list of words reads better as a text

from typing import Any

from .words import MONTHS

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen".split()
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth".split()
)
PRICES = "{} euros|{} euros|${}|£{}|€{}|{} pounds|{} dollars|{} francs|{} crowns".split("|")
CURRENCIES = "euros pounds dollars francs crowns cents pence".split()
PARTS = "in the morning|in the afternoon|in the evening|at night|sharp".split("|")
COMMAS = 0.8  # how often thousands are set apart
IN_WORDS = 0.5  # how often an amount is said in words


def in_words(number: int) -> str:
    """0 to 999, as it is spelled out."""
    if number < 20:
        return UNITS[number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return TENS[tens - 2] + (f"-{UNITS[unit]}" if unit else "")
    hundreds, rest = divmod(number, 100)
    return f"{UNITS[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """1 to 28 in digits: 1st, 2nd, 3rd, 4th."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number in (11, 12, 13) else ends.get(number % 10, 'th')}"


def amount(world: Any, largest: int) -> str:
    """A whole number from 2 on, below `largest`; above a thousand in digits: "2,016" mostly."""
    number = world.rng.randrange(2, largest)
    if number >= 1000:
        return f"{number:,}" if world.rng.random() < COMMAS else str(number)
    return in_words(number) if world.rng.random() < IN_WORDS else str(number)


def price(world: Any) -> str:
    rng = world.rng
    number = rng.randrange(2, rng.choice((30, 100, 900)))
    if rng.random() < IN_WORDS:
        whole = number if number < 100 else 100 * (number // 100)
        spoken, currency = in_words(whole), world.pick(CURRENCIES)
        ends = ("", f" {world.pick(('twenty', 'fifty', 'ninety'))}") if currency in CURRENCIES[:4] else ("",)
        return f"{spoken} {currency}{rng.choices(ends, (9, 1)[: len(ends)])[0]}"
    forms = (
        str(number),
        str(number),
        f"{number % 50 + 1}.{rng.randrange(10)}0",
        f"{rng.randrange(1, 10)},{number:03d}",
    )
    return world.pick(PRICES).format(world.pick(forms))


def time(world: Any) -> str:
    rng, hour = world.rng, world.rng.randrange(1, 13)
    if rng.random() >= IN_WORDS:
        half = world.pick(("am", "pm"))  # with full stops it would look like the end of a sentence
        return world.pick((world.time(), world.time(), f"{hour}.{rng.randrange(10, 60)}", f"{hour} {half}"))
    spoken = in_words(hour)
    return world.pick((
        f"half past {spoken}", f"quarter to {spoken}", f"quarter past {spoken}", f"{spoken} o'clock", spoken,
        f"{world.pick(('five', 'ten', 'twenty'))} {world.pick(('to', 'past'))} {spoken}",
        f"{spoken} {world.pick(PARTS)}", world.pick(("noon", "midnight", "midday")),
    ))  # fmt: skip


def date(world: Any) -> str:
    rng, day, month = world.rng, world.rng.randrange(1, 29), world.pick(MONTHS)
    if rng.random() >= IN_WORDS:
        return world.pick((world.date(), f"the {ordinal(day)} of {month}", f"{ordinal(day)} {month}"))
    return world.pick((f"the {ORDINALS[day - 1]} of {month}", f"{month} the {ORDINALS[day - 1]}"))
