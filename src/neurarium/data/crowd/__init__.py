"""Labels of several people: tables of them, batches, and people who are simulated."""
