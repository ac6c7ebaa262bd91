"""What the stages count of what they see; `metrics` publishes it."""

from __future__ import annotations

from typing import Literal

Count = Literal[
    "messages",  # messages of the source topics applied
    "records",  # usage records counted, replays again
    "late",  # records, or partials, of windows forgotten before
    "rejected",  # dead letters
]
