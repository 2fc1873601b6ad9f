"""Training: from the Kaggle tables to a complete bundle that was compared."""
