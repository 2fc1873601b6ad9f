"""scikit-learn models, and boosters inside them."""
