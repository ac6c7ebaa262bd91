"""The streams: a Faust application that totals usage and decides budgets, and the history."""
