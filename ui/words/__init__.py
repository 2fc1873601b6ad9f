"""Values, labels and sentences in the languages of the page."""
