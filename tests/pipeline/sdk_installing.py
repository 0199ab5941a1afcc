# mypy: ignore-errors
# ruff: noqa
"""Pipelines of the official SDK whose components ask pip for something, as they do unless told otherwise."""

import warnings

from kfp import dsl

warnings.simplefilter("ignore", FutureWarning)
component = dsl.component


@component(base_image="python:3.11", packages_to_install=["tiny==1.0"])
def where() -> str:
    import sys

    import tiny

    return f"{tiny.version()} {sys.prefix}"


@component(base_image="python:3.11", packages_to_install=["tiny==1.0"], use_venv=True)
def doubled(text: str) -> str:
    import tiny

    return text * 2 + tiny.version()


@component(base_image="python:3.11", packages_to_install=["tiny==9.9"])
def impossible() -> str:
    return "never"


@component(base_image="python:3.11")
def bare() -> str:
    import sys

    return sys.prefix


@dsl.pipeline(name="installing")
def installing() -> str:
    return doubled(text=where().output).output


@dsl.pipeline(name="failing")
def failing():
    impossible()
    with dsl.ParallelFor([1, 2]):
        impossible()


@dsl.pipeline(name="plain")
def plain() -> str:
    return bare().output
