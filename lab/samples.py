"""Example worlds: short texts of our own with questions and answers, and unrelated text to put in between."""

import random
from dataclasses import dataclass

from core.world import World


@dataclass(frozen=True)
class Sample:
    """texts are written one by one; questions are (question, expected answer), each answered by one of the texts."""

    name: str
    texts: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]


SAMPLES = (
    Sample(
        "Ilse's household",
        (
            "My sister Ilse keeps her spare key under the blue flowerpot.",
            "The dog of Ilse is named Baltasar. The vet of Baltasar is Doctor Okafor.",
            "The wifi password at Ilse's cabin is foxglove77.",
        ),
        (
            ("Where does Ilse keep her spare key?", "under the blue flowerpot"),
            ("What is the name of Ilse's dog?", "Baltasar"),
            ("What is the wifi password at Ilse's cabin?", "foxglove77"),
        ),
    ),
    Sample(
        "The island of Tarn",
        (
            "The capital of Tarn is Wickhaven. The mayor of Wickhaven is Petra Lund.",
            "The market of Wickhaven is held on Thursday. The ferry leaves at half past six.",
            "The lighthouse of Tarn was founded in 1742. The lighthouse keeper is Edmund Vail.",
        ),
        (
            ("What is the capital of Tarn?", "Wickhaven"),
            ("On which day is the market of Wickhaven?", "Thursday"),
            ("Who is the mayor of Wickhaven?", "Petra Lund"),
        ),
    ),
    Sample(
        "A workshop's notes",
        (
            "The password of the upper archive is amber-41. The serial number of the old press is KD-208.",
            "Captain Ros bought a copper telescope. Captain Ros paid 340 coins for the telescope.",
            "Jonas hid the violin behind the stove. Jonas works as a watchmaker.",
        ),
        (
            ("What is the password of the upper archive?", "amber-41"),
            ("What did Captain Ros buy?", "a copper telescope"),
            ("Where did Jonas hide the violin?", "behind the stove"),
        ),
    ),
    Sample(
        "A change of plan",
        (
            "The meeting with Nora is at 9 o'clock. Nora's room number is 214.",
            "Nora moved to room 330. The meeting with Nora stays at 9 o'clock.",
        ),
        (("What is Nora's room number?", "330"), ("At what time is the meeting with Nora?", "9 o'clock")),
    ),
    Sample(
        "A long letter",
        (
            "Dear Wanda, the harbour is frozen and the boats lie still. Your brother Pavel sold his accordion to the "
            "baker and bought a sledge. The sledge of Pavel is green. On Sunday we walked to the chapel; the chapel "
            "bell is cracked and nobody may ring it before spring. Grandmother is well. Grandmother's favourite food "
            "is plum dumplings, as ever. The key of the boathouse hangs behind the portrait in the hallway. The "
            "telephone number of the new doctor is 6031. Do write soon, and tell us whether the grey cat came home. "
            "Yours, Olga",
        ),
        (
            ("What colour is the sledge of Pavel?", "green"),
            ("Where is the key of the boathouse?", "behind the portrait"),
            ("What is the telephone number of the new doctor?", "6031"),
        ),
    ),
)


def unrelated(count: int, seed: int) -> list[str]:
    """Texts of three invented facts each, about people and places that occur nowhere else."""
    world = World(random.Random(seed))
    return [" ".join(world.fact().fact for _ in range(3)) for _ in range(count)]
