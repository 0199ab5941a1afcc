"""Where things run: `local` or, later, `gcp`."""
