"""Which of a notebook's models goes to production, and which statements make it."""
