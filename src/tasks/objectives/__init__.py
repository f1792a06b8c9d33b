"""What is predicted: loss, metrics and columns of predictions."""
