"""The figures, as pure functions from what happened (`lab.views`) to plotly figures; the page and the notebooks share
them. No torch here. Every figure says its finding in words (`layout.meta["finding"]`), and one text has one colour in
all of them.
"""

from .comparing import byte_bars, measured, retention, second_bars
from .look import PALETTE, WHOLE, Names, colour, finish, method_colour, method_name, name_of, pattern
from .retrieving import agreement, bin_of, num_bins, provenance, score_histogram, score_map
from .running import curves, resources
from .writing import ages, flow, forgetting, losses, pool_map

__all__ = [
    "PALETTE", "WHOLE", "Names", "ages", "agreement", "bin_of", "byte_bars", "colour", "curves", "finish", "flow",
    "forgetting", "losses", "measured", "method_colour", "method_name", "name_of", "num_bins", "pattern", "pool_map",
    "provenance", "resources", "retention", "score_histogram", "score_map", "second_bars",
]  # fmt: skip
