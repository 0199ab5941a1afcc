"""The parts of a model package: how one is drafted, compiled, proven, described, signed and opened."""
