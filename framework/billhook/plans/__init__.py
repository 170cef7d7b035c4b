"""What is asked for and what was decided: budgets, repair options, plans, reports, the journal of a search."""
