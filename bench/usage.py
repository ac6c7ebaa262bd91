"""Usage: the records that all benchmarks count, and an independent sum of them."""

from __future__ import annotations

ORGANIZATION = "acme"
PARTITIONS = 4

QUANTILES = (
    # (share of the requests up to here, input tokens, output tokens): what the public trace of
    # 19,366 requests to a conversation service shows, for machines that do not have it.
    (0.00, 3, 7), (0.10, 106, 25), (0.25, 396, 71), (0.50, 1_020, 129),
    (0.75, 1_186, 277), (0.90, 2_735, 388), (0.99, 4_142, 601), (1.00, 14_050, 1_000),
)  # fmt: skip

Sums = dict[tuple[str, str], tuple[int, int, int, int]]
"""By scope key and window name: nano-dollars, executions, input and output tokens."""
