"""What is known beside the model's file: training data, descriptions, names."""
