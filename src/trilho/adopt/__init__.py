"""How a model comes to be a project of trilho's: today, a small new one that works at once."""
