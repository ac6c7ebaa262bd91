"""outlay keeps fleets of AI agents inside their budgets, by what they report to have used."""
