"""What stands between a notebook or a project and production, with its place, why it hurts, and a way out."""

from __future__ import annotations

from trilho.adopt.doctor.examine import examine, examine_notebook, examine_project

__all__ = ["examine", "examine_notebook", "examine_project"]
