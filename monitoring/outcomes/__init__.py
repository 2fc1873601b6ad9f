"""What became of the decisions in a log: outcomes joined to them, and how good the scores were."""
