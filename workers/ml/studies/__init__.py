"""How the trials of a study get their parameters, and what they tell of them. Functions of rows, without state."""
