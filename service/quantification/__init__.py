"""From activity data to grams and points: documents, formulas, pure functions. No clock, no database, no settings."""
