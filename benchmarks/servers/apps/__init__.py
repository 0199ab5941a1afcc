"""What each product is given to serve the model with: scripts for its own environment, never imported here."""
