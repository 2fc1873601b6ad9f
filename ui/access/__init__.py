"""Who may see the page, and what of it."""
