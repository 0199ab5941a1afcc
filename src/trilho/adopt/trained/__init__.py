"""A model that was trained elsewhere becomes a project: its file is kept, what is not known of it is said."""

from trilho.adopt.trained.adopt import Adopted, adopt_model
from trilho.adopt.trained.handed import Handed, inspect_model
from trilho.adopt.trained.sources import copies, sources

__all__ = ["Adopted", "Handed", "adopt_model", "copies", "inspect_model", "sources"]
