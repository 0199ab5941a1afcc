"""The execution of any IR on this machine: one scheduler, a few workers, a manifest for each task."""
