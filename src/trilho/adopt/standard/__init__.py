"""The standard that every project is written in: rendered, kept as the base of later merges, and upgraded."""
