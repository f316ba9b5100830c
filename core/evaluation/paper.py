"""What the M+ paper reports (arXiv 2502.00592), the one place for its figures; its Table 1 stands in `core.cost`.

All of it was measured by its authors on models of 8B parameters. The method names are this project's: mplus is M+,
full is Llama-3.1-8B with the window named, memoryllm is MemoryLLM-8B (stage 1). Some results are bars or curves
without numbers; for these `told` says what can be read.
"""

from dataclasses import dataclass, field

from ..cost import PAPER_MB

NOT_COMPARABLE = (
    "The paper's models have 8B parameters and read the published data sets; what stands beside them here is another "
    "model on the data at hand. The figures show what each row measures; they are not to be compared."
)
SETS = ("2wikimqa", "hotpotqa", "qasper", "musique", "multifieldqa_en", "narrativeqa", "mean")


@dataclass(frozen=True)
class Reported:
    """where: the paper's table or figure. values: by method, in `unit`. told: what it says without numbers."""

    where: str
    what: str
    values: dict[str, float] = field(default_factory=dict)
    unit: str = ""
    told: str = ""

    def __str__(self) -> str:
        parts = [f"{method} {value:,g}{self.unit}" for method, value in self.values.items()]
        return f"{self.where}: {'; '.join([*parts, *([self.told] if self.told else [])])}"


LONGBENCH: dict[str, dict[str, tuple[float, ...]]] = {
    "8192": {
        "mplus": (33.12, 37.99, 29.91, 20.68, 40.11, 24.18, 31.00),
        "full": (34.87, 43.10, 29.96, 24.96, 43.18, 24.29, 33.39),
        "memoryllm": (32.30, 33.39, 23.88, 12.37, 35.91, 21.46, 26.55),
    },
    "16384": {
        "mplus": (32.71, 38.56, 30.39, 24.58, 46.32, 24.12, 32.78),
        "full": (34.11, 44.72, 30.05, 31.96, 48.86, 25.19, 35.81),
    },
}
"""Tables 2 and 3: QA-F1 by prompt length and method, in the order of `SETS`."""


def longbench(length: str, name: str) -> Reported:
    """LongBench's figures for one set, or the mean, at a prompt length in tokens."""
    values = {method: figures[SETS.index(name)] for method, figures in LONGBENCH[length].items()}
    return Reported("Tables 2, 3", f"LongBench QA-F1, {name}, {length} tokens", values)


PAPER: dict[str, Reported] = {
    "longbench-8192": longbench("8192", "mean"),
    "longbench-16384": longbench("16384", "mean"),
    "longbook": Reported("Figure 2", "LongBook-QA", told="bars between 0.145 and 0.18 QA-F1, M+ the highest"),
    "eventqa": Reported("Figure 2", "LongBook-EventQA", told="bars between 0.18 and 0.25, M+ the highest"),
    "squad": Reported(
        "Figure 3", "SQuAD retention", {"question-only": 9}, " %",
        "M+ above that floor after 160k tokens; SnapKV with 48k tokens not past 30k; MemoryLLM-7B at it by 20k",
    ),
    "natural-questions": Reported(
        "Figure 3", "NaturalQuestions retention", {"question-only": 20}, " %", "M+ above that floor after 160k tokens"
    ),
    "loss": Reported("Figure 4", "Loss by position", told="stage 3 (M+) below stage 2 below stage 1, 1.3 to 1.7 nats"),
    "retrieval": Reported(
        "Figure 6", "True tokens retrieved after 160k tokens", {"mplus": 30, "random-retriever": 3}, " %"
    ),
    "cost": Reported(
        "Table 1", "GPU memory",
        {"mplus": PAPER_MB["M+ 8B"], "memoryllm": PAPER_MB["MemoryLLM 8B"],
         "full": PAPER_MB["Llama-3.1-8B, 16k window"], "snapkv": PAPER_MB["Llama-3.1-8B, SnapKV"]},
        " MB", "Figure 7: seconds only as curves",
    ),
}  # fmt: skip
"""By row of `core.evaluation.paper_runs`. What has no entry is not in the paper."""
