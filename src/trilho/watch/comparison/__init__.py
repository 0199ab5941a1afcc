"""Two tables compared: a decision on each column at a stated false-discovery rate, and a page that shows it."""
