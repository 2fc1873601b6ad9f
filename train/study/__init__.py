"""From rows to a trained, evaluated model, whatever the table."""
