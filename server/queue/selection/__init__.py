"""Which jobs are meant, and what is looked at of each."""
