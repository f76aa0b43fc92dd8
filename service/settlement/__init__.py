"""Settlement 结算: each bank day under one statement, what the bank says of it, and what is owed to whom."""
