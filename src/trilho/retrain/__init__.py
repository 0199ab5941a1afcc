"""What starts a retraining, and the loop that sees it through."""
