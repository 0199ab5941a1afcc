"""What must hold of a definition before anything runs: one rule a function, each finding with file and line."""
