"""Whether a project gives the same answers as the notebook that it was made of, shown stage by stage."""
