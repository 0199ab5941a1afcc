"""What models learn from: dataset versions, contracts, labels."""
