"""What tests and the demo put in the place of the world outside."""
