"""Parameters that group options in a dataclass, as flat options of a command."""

import ast
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any, get_type_hints


def flatten_groups(job: Callable[..., Any]) -> Callable[..., Any]:
    """Return the job with the fields of each dataclass parameter as parameters of their own.

    The docstring lists the fields, with their docstrings, in place of the parameter.
    """
    hints = get_type_hints(job, include_extras=True)
    signature = inspect.signature(job)
    groups = {name: hints[name] for name in signature.parameters if dataclasses.is_dataclass(hints[name])}
    if not groups:
        return job
    parameters: list[inspect.Parameter] = []
    docstring = inspect.getdoc(job) or ""
    for parameter in signature.parameters.values():
        kind = groups.get(parameter.name)
        parameters += [parameter] if kind is None else _parameters(kind)
        if kind is not None:
            docstring = _replace_entry(docstring, parameter.name, _docstrings(kind))

    @functools.wraps(job)
    def flat(*positional: Any, **options: Any) -> Any:
        built = {name: _build(kind, options) for name, kind in groups.items()}
        return job(*positional, **options, **built)

    flat.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {
        parameter.name: hints.get(parameter.name, parameter.annotation) for parameter in parameters
    } | {"return": hints.get("return")}
    flat.__doc__ = docstring
    del flat.__wrapped__  # Otherwise its signature is found.
    return flat


def _parameters(kind: Any) -> list[inspect.Parameter]:
    """Return the fields of a dataclass, and of dataclasses in it, as keyword parameters."""
    hints = get_type_hints(kind, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            parameters += _parameters(hints[field.name])
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(
                inspect.Parameter(field.name, keyword, default=field.default, annotation=hints[field.name])
            )
    return parameters


def _build(kind: Any, options: dict[str, Any]) -> Any:
    """Return a dataclass of the options that are its fields, and take them out of `options`."""
    hints = get_type_hints(kind)
    return kind(
        **{
            field.name: _build(hints[field.name], options)
            if dataclasses.is_dataclass(hints[field.name])
            else options.pop(field.name)
            for field in dataclasses.fields(kind)
        }
    )


def _docstrings(kind: Any) -> dict[str, str]:
    """Return the docstring of each field, which the source code has after the field."""
    hints = get_type_hints(kind)
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    docs: dict[str, str] = {}
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name = statement.target.id
        if dataclasses.is_dataclass(hints[name]):
            docs |= _docstrings(hints[name])
        elif isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            docs[name] = " ".join(str(following.value.value).split())
    return docs


def _replace_entry(docstring: str, name: str, entries: dict[str, str]) -> str:
    """Return a docstring with other entries in place of one, which takes one line."""
    lines: list[str] = []
    for line in docstring.splitlines():
        if line.startswith(f"    {name}: "):
            lines += [f"    {key}: {text}" for key, text in entries.items()]
        else:
            lines.append(line)
    return "\n".join(lines)
