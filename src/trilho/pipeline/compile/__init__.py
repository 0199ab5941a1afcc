"""From a definition to the IR, the same bytes for the same input."""
