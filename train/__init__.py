"""Training: from the Kaggle tables to a complete, certified bundle."""
