"""Emit: from a plan to the text of a project's own files, formatted, typed and tested."""
