"""Formulas over the columns of a table: a small language of its own, parsed and type-checked here and never evaluated as Python.

    formula    = condition ["if" condition "else" formula]
    condition  = comparison with "not", "and", "or" before, between
    comparison = sum [("==" | "!=" | "<" | "<=" | ">" | ">=") sum]
    sum, product, power = "+" "-", "*" "/" "%", "**" and a leading "-"
    value      = number | 'text' | true | false | null | column | `any column` | function(formula, ...) | (formula)

It is here, not with the steps, because the API refuses a formula that cannot work before it accepts a job, and a body computes it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from db.core.suggestions import closest

Kind = Literal["number", "text", "boolean", "time"]

MAX_LENGTH = 2_000
MAX_PARTS = 300
MAX_DEPTH = 40

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<column>`(?:[^`]|``)+`)
    | (?P<name>[^\W\d]\w*)
    | (?P<operator>\*\*|==|!=|<=|>=|[-+*/%<>(),])
    )""",
    re.VERBOSE,
)
_KEYWORDS = {"and", "or", "not", "if", "else", "true", "false", "null"}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_BINDING = {"or": 1, "and": 2, **dict.fromkeys(_COMPARISONS, 4), "+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "**": 8}
_NOT_BINDING, _SIGN_BINDING = 3, 7


class FormulaError(Exception):
    """What is wrong with a formula; `position` counts its characters from 1."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"At character {position}: {message}")
        self.position = position


@dataclass(frozen=True)
class Part:
    """A part of a formula. `operation` is "literal", "column", "if", an operator or a function; `value` is a literal's or a column's name."""

    operation: str
    position: int
    parts: tuple[Part, ...] = ()
    value: float | str | bool | None = None

    def walk(self) -> Iterator[Part]:
        yield self
        for part in self.parts:
            yield from part.walk()

    @property
    def columns(self) -> list[str]:
        """The columns that it names, once each, in order."""
        return list(dict.fromkeys(str(part.value) for part in self.walk() if part.operation == "column"))


@dataclass(frozen=True)
class Function:
    """The kinds of a function's parameters and result; the last parameter may repeat. `literals` are positions that take a literal only."""

    parameters: tuple[Kind | None, ...]
    result: Kind | None
    least: int
    repeats: bool = False
    literals: tuple[int, ...] = ()


def _numeric(count: int = 1) -> Function:
    return Function(("number",) * count, "number", count)


FUNCTIONS: dict[str, Function] = {
    **dict.fromkeys(("abs", "sqrt", "exp", "log", "log10", "log1p", "floor", "ceil", "sign", "sin", "cos", "tan"), _numeric()),
    "round": Function(("number", "number"), "number", 1, literals=(1,)),
    **dict.fromkeys(("min", "max"), Function(("number",), "number", 2, repeats=True)),
    **dict.fromkeys(("lower", "upper", "trim"), Function(("text",), "text", 1)),
    "length": Function(("text",), "number", 1),
    **dict.fromkeys(("contains", "starts_with", "ends_with"), Function(("text", "text"), "boolean", 2, literals=(1,))),
    "replace": Function(("text", "text", "text"), "text", 3, literals=(1, 2)),
    "concat": Function((None,), "text", 2, repeats=True),
    "is_missing": Function((None,), "boolean", 1),
    "coalesce": Function((None,), None, 2, repeats=True),
    "number": Function((None,), "number", 1),
    "text": Function((None,), "text", 1),
    **dict.fromkeys(("year", "month", "day", "weekday", "hour", "minute"), Function(("time",), "number", 1)),
    "date": Function(("text",), "time", 1, literals=(0,)),
    "days_between": Function(("time", "time"), "number", 2),
}


def parse(formula: str) -> Part:
    """Raises FormulaError."""
    if len(formula) > MAX_LENGTH:
        raise FormulaError(f"A formula has at most {MAX_LENGTH:,} characters.", MAX_LENGTH + 1)
    return _Parser(formula).formula()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


class _Parser:
    def __init__(self, formula: str) -> None:
        self._tokens = list(_tokens(formula))
        self._next = 0
        self._depth = 0
        self._count = 0

    def formula(self) -> Part:
        part = self._conditional()
        token = self._peek()
        if token.kind != "end":
            raise FormulaError(f"{token.text!r} does not belong here. Join values by an operator.", token.position)
        return part

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += token.kind != "end"
        return token

    def _part(self, operation: str, position: int, *parts: Part, value: float | str | bool | None = None) -> Part:
        self._count += 1
        if self._count > MAX_PARTS:
            raise FormulaError(f"The formula has more than {MAX_PARTS} parts. Compute it in several columns.", position)
        return Part(operation, position, parts, value)

    def _expect(self, text: str, purpose: str) -> None:
        token = self._take()
        if token.text != text or token.kind in ("text", "column"):
            found = "the end" if token.kind == "end" else repr(token.text)
            raise FormulaError(f"{text!r} is expected {purpose}, not {found}.", token.position)

    def _conditional(self) -> Part:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FormulaError(f"The formula is nested more than {MAX_DEPTH} levels deep.", self._peek().position)
        value = self._operation(0)
        token = self._peek()
        if (token.kind, token.text) == ("keyword", "if"):
            self._take()
            condition = self._operation(0)
            self._expect("else", "after the condition of an 'if'")
            value = self._part("if", token.position, condition, value, self._conditional())
        self._depth -= 1
        return value

    def _operation(self, binding: int) -> Part:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FormulaError(f"The formula is nested more than {MAX_DEPTH} levels deep.", self._peek().position)
        left = self._operand()
        while True:
            token = self._peek()
            own = _BINDING.get(token.text, 0) if token.kind in ("operator", "keyword") else 0
            if own <= binding:
                self._depth -= 1
                return left
            self._take()
            # a ** b ** c is a ** (b ** c); all others group from the left.
            right = self._operation(own - 1 if token.text == "**" else own)
            if token.text in _COMPARISONS and self._peek().text in _COMPARISONS and self._peek().kind == "operator":
                raise FormulaError("Comparisons cannot be chained. Join two of them by 'and'.", self._peek().position)
            left = self._part(token.text, token.position, left, right)

    def _operand(self) -> Part:
        token = self._take()
        literals: dict[str, bool | None] = {"true": True, "false": False, "null": None}
        if token.kind == "number":
            return self._part("literal", token.position, value=float(token.text))
        if token.kind == "text":
            quote = token.text[0]
            return self._part("literal", token.position, value=token.text[1:-1].replace(quote * 2, quote))
        if token.kind == "column":
            return self._part("column", token.position, value=token.text[1:-1].replace("``", "`"))
        if token.kind == "keyword" and token.text in literals:
            return self._part("literal", token.position, value=literals[token.text])
        if (token.kind, token.text) == ("keyword", "not"):
            return self._part("not", token.position, self._operation(_NOT_BINDING))
        if (token.kind, token.text) == ("operator", "-"):
            return self._part("negate", token.position, self._operation(_SIGN_BINDING))
        if (token.kind, token.text) == ("operator", "("):
            value = self._conditional()
            self._expect(")", f"for the bracket at character {token.position}")
            return value
        if token.kind == "name":
            return self._call(token) if self._peek().text == "(" and self._peek().kind == "operator" else self._column(token)
        found = "ends" if token.kind == "end" else f"has {token.text!r}"
        raise FormulaError(f"The formula {found} where a value is expected: a number, a 'text', a column or a function.", token.position)

    def _column(self, token: _Token) -> Part:
        return self._part("column", token.position, value=token.text)

    def _call(self, token: _Token) -> Part:
        function = FUNCTIONS.get(token.text)
        if function is None:
            close_matches = difflib.get_close_matches(token.text, FUNCTIONS, n=1)
            hint = f"Did you mean {close_matches[0]!r}?" if close_matches else f"Functions are: {', '.join(FUNCTIONS)}."
            raise FormulaError(f"There is no function {token.text[:50]!r}. {hint}", token.position)
        self._take()
        arguments = [self._conditional()]
        while self._peek().text == "," and self._peek().kind == "operator":
            self._take()
            arguments.append(self._conditional())
        self._expect(")", f"after the arguments of {token.text!r}")
        most = None if function.repeats else len(function.parameters)
        if len(arguments) < function.least or (most is not None and len(arguments) > most):
            expected = (
                f"at least {function.least}"
                if most is None
                else f"{function.least}"
                if most == function.least
                else f"{function.least} or {most}"
            )
            raise FormulaError(f"{token.text!r} takes {expected} arguments, not {len(arguments)}.", token.position)
        for index in function.literals:
            if index < len(arguments) and (arguments[index].operation != "literal" or arguments[index].value is None):
                raise FormulaError(f"Argument {index + 1} of {token.text!r} must be a literal, and not null.", arguments[index].position)
        return self._part(token.text, token.position, *arguments)


def _tokens(formula: str) -> Iterator[_Token]:
    position = 0
    while formula[position:].strip():
        match = _TOKEN.match(formula, position)
        if match is None:
            start = position + len(formula[position:]) - len(formula[position:].lstrip())
            character = formula[start]
            hint = " Write a column with such a name in backticks." if not character.isascii() or character in "#$@.[]{}" else ""
            hint = (
                " A text ends with the quote that it begins with."
                if character in "'\"`"
                else " Compare by '=='."
                if character == "="
                else hint
            )
            raise FormulaError(f"{character!r} is not part of a formula.{hint}", start + 1)
        kind = str(match.lastgroup)
        text = match.group(kind)
        yield _Token("keyword" if kind == "name" and text in _KEYWORDS else kind, text, match.start(kind) + 1)
        position = match.end()
    yield _Token("end", "", len(formula) + 1)


def kind_of(formula: Part, kinds: Mapping[str, Kind | None]) -> Kind | None:
    """Return the kind of the result, None if it cannot be told because that of a column is None.

    Raises FormulaError for a column that `kinds` lacks, and for a part of the wrong kind.
    """
    if formula.operation == "literal":
        value = formula.value
        return None if value is None else "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    if formula.operation == "column":
        return _column_kind(formula, kinds)
    found: list[Kind | None] = [kind_of(part, kinds) for part in formula.parts]
    return _RULES.get(formula.operation, _check_call)(formula, found)


def _column_kind(part: Part, kinds: Mapping[str, Kind | None]) -> Kind | None:
    name = str(part.value)
    if name not in kinds:
        close = closest(name, kinds)
        hint = f" Did you mean {close!r}?" if close is not None else " Write a text in quotes."
        raise FormulaError(f"There is no column {name[:100]!r}.{hint}", part.position)
    return kinds[name]


def _require(part: Part, kind: Kind | None, expected: Kind, whose: str) -> None:
    if kind is not None and kind != expected and not (kind == "boolean" and expected == "number"):
        raise FormulaError(f"{whose} takes a {expected}, and this is a {kind}.", part.position)


def _check_numbers(formula: Part, kinds: list[Kind | None]) -> Kind | None:
    for part, kind in zip(formula.parts, kinds, strict=True):
        _require(part, kind, "number", repr("-" if formula.operation == "negate" else formula.operation))
    return "number"


def _check_booleans(formula: Part, kinds: list[Kind | None]) -> Kind | None:
    for part, kind in zip(formula.parts, kinds, strict=True):
        _require(part, kind, "boolean", repr(formula.operation))
    return "boolean"


def _same_kind(formula: Part, parts: tuple[Part, ...], kinds: list[Kind | None]) -> Kind | None:
    known: list[Kind] = [kind for kind in kinds if kind is not None]
    for part, kind in zip(parts, kinds, strict=True):
        if kind is not None and kind != known[0]:
            raise FormulaError(f"{formula.operation!r} needs values of one kind, and this is a {kind}, not a {known[0]}.", part.position)
    return known[0] if known else None


def _check_comparison(formula: Part, kinds: list[Kind | None]) -> Kind | None:
    kind = _same_kind(formula, formula.parts, kinds)
    if formula.operation not in ("==", "!=") and kind in ("text", "boolean"):
        raise FormulaError(f"{formula.operation!r} orders numbers and times, not a {kind}.", formula.position)
    return "boolean"


def _check_if(formula: Part, kinds: list[Kind | None]) -> Kind | None:
    _require(formula.parts[0], kinds[0], "boolean", "The condition of an 'if'")
    return _same_kind(formula, formula.parts[1:], kinds[1:])


def _check_call(formula: Part, kinds: list[Kind | None]) -> Kind | None:
    function = FUNCTIONS[formula.operation]
    if formula.operation == "date":
        try:
            date.fromisoformat(str(formula.parts[0].value))
        except ValueError:
            raise FormulaError("A date is a text such as '2024-05-01'.", formula.parts[0].position) from None
    for index, (part, kind) in enumerate(zip(formula.parts, kinds, strict=True)):
        expected = function.parameters[min(index, len(function.parameters) - 1)]
        if expected is not None:
            _require(part, kind, expected, repr(formula.operation))
    return _same_kind(formula, formula.parts, kinds) if formula.operation == "coalesce" else function.result


_RULES: dict[str, Callable[[Part, list[Kind | None]], Kind | None]] = {
    **dict.fromkeys(("+", "-", "*", "/", "%", "**", "negate"), _check_numbers),
    **dict.fromkeys(("and", "or", "not"), _check_booleans),
    **dict.fromkeys(_COMPARISONS, _check_comparison),
    "if": _check_if,
}
