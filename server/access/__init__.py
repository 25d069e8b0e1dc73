"""Who may come in: tokens, roles, how often."""
