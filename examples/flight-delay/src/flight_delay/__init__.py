"""Late departures from New York."""
