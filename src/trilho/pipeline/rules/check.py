"""The rules that a pipeline is held against before it is compiled: one function each, and each names file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from trilho.pipeline.definition.document import Definition, GraphError
from trilho.pipeline.definition.interface import StepInterface
from trilho.pipeline.rules.blocks import (
    branch_read_outside,
    broken_chain,
    collected_outside_loop,
    empty_block,
    first_of_no_chain,
    item_outside_loop,
    loop_read_outside,
    waits_into_block,
)
from trilho.pipeline.rules.ends import (
    exit_reads_outputs,
    ignored_failure_needs_input,
    many_exits,
    odd_option,
    side_effect_repeated,
    status_without_end,
)
from trilho.pipeline.rules.names import bad_name, duplicate_name, no_tasks, unknown_step, unsound_step
from trilho.pipeline.rules.reading import Finding, Reading
from trilho.pipeline.rules.types import (
    not_a_list,
    odd_comparison,
    odd_parameter,
    type_mismatch,
    unserializable,
)
from trilho.pipeline.rules.wiring import (
    circle,
    missing_input,
    odd_output,
    unknown_argument,
    unknown_code,
    unknown_output,
    unknown_parameter,
    unused_output,
    unused_parameter,
)

__all__ = ["RULES", "Finding", "GraphError", "check", "require_sound"]

Rule = Callable[[Reading], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    no_tasks,
    bad_name,
    duplicate_name,
    unknown_step,
    unsound_step,
    unknown_argument,
    missing_input,
    unknown_output,
    odd_output,
    unknown_parameter,
    unknown_code,
    unserializable,
    odd_parameter,
    type_mismatch,
    odd_comparison,
    not_a_list,
    circle,
    broken_chain,
    empty_block,
    branch_read_outside,
    loop_read_outside,
    waits_into_block,
    item_outside_loop,
    collected_outside_loop,
    first_of_no_chain,
    many_exits,
    exit_reads_outputs,
    status_without_end,
    ignored_failure_needs_input,
    odd_option,
    side_effect_repeated,
    unused_output,
    unused_parameter,
)


def check(definition: Definition, interfaces: Mapping[str, StepInterface]) -> list[Finding]:
    """Hold a pipeline against all rules: what is wrong first, then what is only odd, each in the order of the text."""
    reading = Reading(definition, interfaces)
    found = dict.fromkeys(finding for rule in RULES for finding in rule(reading))
    return sorted(found, key=lambda finding: (finding.severity != "error", finding.file, finding.line))


def require_sound(definition: Definition, interfaces: Mapping[str, StepInterface]) -> list[Finding]:
    """Raise GraphError that lists all that is wrong; give the warnings that are left where nothing is."""
    found = check(definition, interfaces)
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        raise error_of(definition.name, errors)
    return found


def error_of(name: str, errors: Iterable[Finding]) -> GraphError:
    """Put findings into one error."""
    errors = list(errors)
    if len(errors) == 1:
        return GraphError(str(errors[0]), hint=errors[0].hint or None)
    lines = [f"{finding}" + (f"; {finding.hint}" if finding.hint else "") for finding in errors]
    return GraphError("\n".join([f"pipeline {name} has {len(errors)} errors:", *lines]))
