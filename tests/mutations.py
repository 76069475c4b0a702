"""Small changes of a module's source, as texts: `changed_sources` gives them all, tests/mutate.py runs tests
on some.

Each change is of one place: a comparison or an arithmetic operation is swapped, a boundary moved, a number
changed, a condition made constant, a part of `and` or `or` left out, a call or a keyword left out, `min` made
`max`, another value returned. Strings and f-strings, `raise` statements, annotations and decorators are left
alone.
"""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Iterator
from typing import Any

_COMPARE: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_SWAPPED = {
    "min": "max", "minimum": "maximum", "argmin": "argmax", "floor": "ceil", "any": "all", "left": "right",
    "logical_and": "logical_or", "cumsum": "cumprod", "sum": "max", "mean": "median",
}  # fmt: skip
_SWAPPED |= {new: old for old, new in _SWAPPED.items() if old not in ("sum", "cumsum")}
# Calls that can be left out: a function is replaced by its first argument, a method by its object.
_REMOVABLE = {
    "abs", "sorted", "round", "sqrt", "square", "log2", "log10", "log1p", "exp", "unique", "sort", "diff", "ceil",
    "floor", "cumsum", "unwrap",
}  # fmt: skip
_METHODS = {"casefold", "lower", "upper", "strip", "rstrip", "lstrip", "copy", "clip", "round", "replace"}
_KEPT_KEYWORDS = {
    "strict",
    "encoding",
    "dtype",
    "key",
    "errors",
    "out",
}  # leaving these out changes little here


def changed_sources(source: str, skip: tuple[str, ...] = ()) -> list[tuple[str, int, str]]:
    """(changed source, line, function) of every change, in the order of lines. skip: functions that are left
    alone.
    """
    found: dict[str, tuple[int, str]] = {}
    for node, function, text in _edits(ast.parse(source), source, "", skip):
        changed = _replaced(source, node, text)
        if changed != source and _compiles(changed):
            found.setdefault(changed, (node.lineno, function))
    placed = sorted(found.items(), key=lambda item: item[1][0])
    return [(changed, line, function) for changed, (line, function) in placed]


def _edits(
    node: ast.AST, source: str, function: str, skip: tuple[str, ...]
) -> Iterator[tuple[Any, str, str]]:
    """(node, the function it stands in, text that replaces it) for every change below `node`."""
    for child in _mutable_children(node):
        inside = function
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inside = f"{function}.{child.name}".lstrip(".")
        elif isinstance(child, ast.Assign | ast.AnnAssign) and not function:
            inside = ast.unparse(child.targets[0] if isinstance(child, ast.Assign) else child.target)
        if inside in skip:
            continue
        for changed, text in _changes(child, source, node):
            yield changed, inside, text
        yield from _edits(child, source, inside, skip)


def _mutable_children(node: ast.AST) -> Iterator[ast.AST]:
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg in _KEPT_KEYWORDS:
                continue
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr | ast.Raise | ast.Import):
                yield child


def _changes(node: ast.AST, source: str, parent: ast.AST) -> Iterator[tuple[Any, str]]:
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                for other in _COMPARE[type(operator)]:
                    yield node, _with(node, lambda new, p=place, o=other: new.ops.__setitem__(p, o()))
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            yield node, _with(node, lambda new: setattr(new, "op", _ARITHMETIC[type(new.op)]()))
        case ast.AugAssign() if type(node.op) in _ARITHMETIC:
            changed = copy.deepcopy(node)
            changed.op = _ARITHMETIC[type(node.op)]()
            yield node, ast.unparse(changed)
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield node, _with(node, lambda new: setattr(new, "op", other()))
            for place in range(len(node.values)):
                kept = [value for at, value in enumerate(node.values) if at != place]
                yield node, _text(kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept))
        case ast.UnaryOp():
            yield node, _text(node.operand)
        case ast.Constant(value=bool() as value):
            yield node, str(not value)
        case ast.Constant(value=int() as value):
            yield node, _text(ast.Constant(value + 1))
            yield node, _text(ast.parse(str(value - 1), mode="eval").body)
        case ast.Constant(value=float() as value):
            yield node, repr(value + 1 if abs(value) < 1e-3 else value * 1.25)
        case ast.If() | ast.IfExp() | ast.While():
            yield node.test, "False"
            if not isinstance(node, ast.While):
                yield node.test, "True"
        case ast.comprehension():
            for condition in node.ifs:
                yield condition, "True"
        case ast.Continue():
            yield node, "break"
        case ast.Expr(value=ast.Call()):
            yield node, "pass"
        case ast.Call():
            yield from ((node, text) for text in _calls(node))
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in _SWAPPED and isinstance(
            parent, ast.Call
        ):
            if parent.func is node:
                text = _SWAPPED[name]
                if isinstance(node, ast.Attribute):
                    yield node, f"{ast.unparse(node.value)}.{text}"
                elif hasattr(builtins, text):
                    yield node, text
        case ast.FunctionDef():
            for inner in _returns(node):
                yield (
                    inner.value,
                    _other_value(inner.value, ast.unparse(node.returns or ast.Constant(None)), source),
                )


def _calls(node: ast.Call) -> Iterator[str]:
    """The call with a keyword left out, and what it is applied to without the call."""
    for place, keyword in enumerate(node.keywords):
        if keyword.arg not in _KEPT_KEYWORDS and keyword.arg is not None:
            yield _with(node, lambda new, p=place: new.keywords.pop(p))
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in _METHODS and isinstance(node.func, ast.Attribute):
        yield _text(node.func.value)
    if name in _REMOVABLE and node.args and not isinstance(node.args[0], ast.Starred):
        yield _text(node.args[0])


def _returns(function: ast.FunctionDef) -> Iterator[Any]:
    """The `return` statements of a function with a value, without those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _other_value(value: ast.expr, kind: str, source: str) -> str:
    before = ast.get_source_segment(source, value)
    by_kind = {"float": f"({before}) + 1", "int": f"({before}) + 1", "bool": f"not ({before})", "str": '""'}
    return by_kind.get(kind, "None")


def _with(node: ast.expr, change: Any) -> str:
    """The text of a copy of `node`, changed in place."""
    changed = copy.deepcopy(node)
    change(changed)
    return _text(changed)


def _text(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if isinstance(node, ast.Constant | ast.Name | ast.Call | ast.Attribute) else f"({text})"


def _replaced(source: str, node: Any, text: str) -> str:
    """`source` with the span of `node` replaced. Columns of the syntax tree count bytes."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    whole = source.encode()
    return (whole[:start] + text.encode() + whole[end:]).decode()


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True
