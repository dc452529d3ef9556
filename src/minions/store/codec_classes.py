"""Generate the functions that store and read the instances of one class.

Each class gets two functions of straight-line code, as attrs and dataclasses make
theirs: a loop over fields costs several times as much, and every event and every
step pays.  The fast code only finds that something is wrong; what and where is
found by going through the fields again, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minions.declare.schema import Migration
from minions.store.codec_fields import Field, Shape
from minions.store.codec_kinds import BadValueError, Kind, mismatch
from minions.store.codec_versions import VERSION_KEY, Versions

__all__ = ["CheckKind", "ClassKind"]

# Above this many classes a look-up in a set is the shorter test.
_MAX_COMPARED = 3


class ClassKind(Kind):
    """How the instances of a data class are stored: a map of their fields."""

    def __init__(self, cls: type, name: str) -> None:
        super().__init__(
            name=name,
            classes=(cls,),
            wire=frozenset({dict}),
            tagged=True,
            tag=cls.__qualname__,
        )
        self.shape: Shape | None = None
        self.kinds: Sequence[Kind] = ()

    def complete(
        self, shape: Shape, kinds: Sequence[Kind], migrations: Sequence[Migration]
    ) -> None:
        """Give it its fields and its versions, and make its two functions.

        Apart from the construction because a class may be a field of its own.
        """
        self._versions = Versions(
            cls=shape.cls,
            name=self.name,
            fields=frozenset(field.name for field in shape.fields),
            migrations=tuple(migrations),
        )
        self.kinds = kinds
        self.encode: Callable[[Any], Any] = self._generate_encode(shape)
        self.decode: Callable[[Any], Any] = self._generate_decode(shape)
        # Last: until then others must look its functions up at each call.
        self.shape = shape

    def _generate_encode(self, shape: Shape) -> Callable[[Any], Any]:
        names: dict[str, Any] = {
            "cls": shape.cls,
            "wrong": lambda value: mismatch(self.name, value),
            "locate": self._locate,
            "mismatch": mismatch,
        }
        lines = ["def encode(value):", " if type(value) is not cls:"]
        lines += ["  raise wrong(value)", " try:", "  pass"]
        for i, (field, kind) in enumerate(zip(shape.fields, self.kinds, strict=True)):
            if kind.plain:
                lines += [f"  v{i} = value.{field.name}"]
                lines += _check(i, kind, names)
            else:
                call = _call(i, f"value.{field.name}", kind, role="encode", names=names)
                lines += [f"  v{i} = {call}"]
        pairs = [f"{f.name!r}: v{i}" for i, f in enumerate(shape.fields)]
        if self._versions.current > 1:
            pairs.insert(0, f"{VERSION_KEY!r}: {self._versions.current}")
        lines += [" except Exception as exc:", "  raise locate(value, exc) from exc"]
        lines += [f" return {{{', '.join(pairs)}}}"]
        return _compile(lines, names, "encode")

    def _generate_decode(self, shape: Shape) -> Callable[[Any], Any]:
        names: dict[str, Any] = {
            "cls": shape.cls,
            "slow": self._decode_slowly,
            "set_field": shape.set_field,
            "mismatch": mismatch,
            "adapt": self._versions.adapt,
        }
        if not shape.constructor:
            return lambda data: self._decode_slowly(data, None)
        lines = ["def decode(data):", " try:"]
        lines += [f"  if {self._unusual(shape)}:", "   data = adapt(data)"]
        # All of them before any is read: what a missing one costs must not depend on
        # how deep the data is.
        lines += [f"  v{i} = data[{f.name!r}]" for i, f in enumerate(shape.fields)]
        values = []
        for i, kind in enumerate(self.kinds):
            if kind.plain:
                lines += _check(i, kind, names)
            elif shape.restore or not shape.fields[i].init:
                call = _call(i, f"v{i}", kind, role="decode", names=names)
                lines += [f"  v{i} = {call}"]
            else:
                values += [_call(i, f"v{i}", kind, role="decode", names=names)]
                continue
            values += [f"v{i}"]
        lines += _make_lines(shape, values, names)
        # A missing field, or anything that is wrong.
        lines += [" except Exception as exc:", "  return slow(data, exc)"]
        return _compile(lines, names, "decode")

    def _unusual(self, shape: Shape) -> str:
        """Write the test for other data than that of just these fields today.

        If each field is there, the number tells whether anything else is.
        """
        count, current = len(shape.fields), self._versions.current
        if current > 1:
            test = f"data.get({VERSION_KEY!r}) != {current}"
            return f"len(data) != {count + 1} or {test}"
        # Only a class with fields finds by them that the data is no map.
        return f"len(data) != {count}" if count else "data or type(data) is not dict"

    def _locate(self, value: Any, error: Exception) -> BadValueError:
        """Find the field that cannot be stored."""
        if isinstance(error, BadValueError) and error.where:
            return error
        if isinstance(error, RecursionError):
            return BadValueError(
                "expected data that ends, found it nested too deeply, or in itself",
                where=self.name,
            )
        assert self.shape is not None
        for field, kind in zip(self.shape.fields, self.kinds, strict=True):
            where = f"{self.name}.{field.name}"
            try:
                part = getattr(value, field.name)
            except AttributeError:
                return BadValueError("expected a value, found it not set", where=where)
            try:
                kind.encode(part)
            except BadValueError as exc:
                return exc if exc.where else BadValueError(exc.what, where=where)
            except Exception as exc:  # noqa: BLE001  # a user's hook may raise any
                return BadValueError(f"{type(exc).__name__}: {exc}", where=where)
        return BadValueError(f"{type(error).__name__}: {error}", where=self.name)

    def _decode_slowly(self, data: Any, error: Exception | None) -> Any:
        """Read with defaults for what is missing, or say what is wrong."""
        if isinstance(error, BadValueError) and error.where:
            raise error
        if isinstance(error, RecursionError):
            raise self._too_deep()
        assert self.shape is not None
        return self._make(self.shape, self._read(self.shape, data))

    def _read(self, shape: Shape, data: Any) -> dict[str, Any]:
        data = self._versions.adapt(data)
        found: dict[str, Any] = {}
        for field, kind in zip(shape.fields, self.kinds, strict=True):
            where = f"{self.name}.{field.name}"
            if field.name not in data:
                if field.init and field.default is None:
                    raise BadValueError(
                        "expected a value, found none in the stored data; give the"
                        " field a default",
                        where=where,
                    )
                continue
            try:
                found[field.name] = kind.decode(data[field.name])
            except BadValueError as exc:
                if exc.where:
                    raise
                raise BadValueError(exc.what, where=where) from exc
            except RecursionError:
                raise self._too_deep() from None
            except Exception as exc:
                what = f"{type(exc).__name__}: {exc}"
                raise BadValueError(what, where=where) from exc
        return found

    def _too_deep(self) -> BadValueError:
        return BadValueError("the data is nested too deeply", where=self.name)

    def _make(self, shape: Shape, found: dict[str, Any]) -> Any:
        try:
            if shape.constructor:
                made = shape.cls(
                    **{f.alias: found[f.name] for f in shape.fields if _given(f, found)}
                )
                default = False
            else:
                made = shape.cls.__new__(shape.cls)
                default = True
            for field in shape.fields:
                if field.name in found:
                    if default or shape.restore or not field.init:
                        shape.set_field(made, field.name, found[field.name])
                elif default and field.default is not None:
                    shape.set_field(made, field.name, field.default(made))
        except Exception as exc:
            raise BadValueError(
                f"the class refused its stored values: {type(exc).__name__}: {exc}",
                where=self.name,
            ) from exc
        return made


class CheckKind(ClassKind):
    """Finds out whether stored data fits a class, and makes no instance of it."""

    def complete(
        self, shape: Shape, kinds: Sequence[Kind], migrations: Sequence[Migration]
    ) -> None:
        """Give it its fields and its versions."""
        super().complete(shape, kinds, migrations)

        def check(data: Any) -> Any:
            self._read(shape, data)
            return object()  # can be a key and a member of a set, like an instance

        self.decode: Callable[[Any], Any] = check


def _given(field: Field, found: dict[str, Any]) -> bool:
    return field.init and field.name in found


def _call(
    index: int, source: str, kind: Kind, *, role: str, names: dict[str, Any]
) -> str:
    # A class that contains itself has its functions only later.
    if isinstance(kind, ClassKind) and kind.shape is None:
        names[f"k{index}"] = kind
        return f"k{index}.{role}({source})"
    names[f"f{index}"] = getattr(kind, role)
    return f"f{index}({source})"


def _check(index: int, kind: Kind, names: dict[str, Any]) -> list[str]:
    """Write the test that a plain value has a class that its kind takes."""
    names[f"n{index}"] = kind.name
    if len(kind.classes) > _MAX_COMPARED:
        names[f"c{index}"] = frozenset(kind.classes)
        test = f"type(v{index}) not in c{index}"
    else:
        for j, cls in enumerate(kind.classes):
            names[f"c{index}_{j}"] = cls
        test = " and ".join(
            f"type(v{index}) is not c{index}_{j}" for j in range(len(kind.classes))
        )
    return [f"  if {test}:", f"   raise mismatch(n{index}, v{index})"]


def _make_lines(shape: Shape, values: list[str], names: dict[str, Any]) -> list[str]:
    """Write what makes the instance of its fields' values."""
    if shape.setters is not None:
        # In one step less: a constructor written in Python costs as much again.
        names["new"] = object.__new__
        lines = ["  made = new(cls)"]
        for i, (field, set_it) in enumerate(
            zip(shape.fields, shape.setters, strict=True)
        ):
            names[f"s{i}"] = set_it
            assign = f"  made.{field.name} = {values[i]}"
            lines += [assign if set_it is None else f"  s{i}(made, {values[i]})"]
        return [*lines, "  return made"]
    arguments = [
        f"{field.alias}={value}" if field.kw_only else value
        for field, value in zip(shape.fields, values, strict=True)
        if field.init
    ]
    late = [
        f"  set_field(made, {field.name!r}, v{i})"
        for i, field in enumerate(shape.fields)
        if shape.restore or not field.init
    ]
    made = f"cls({', '.join(arguments)})"
    if not late:
        return [f"  return {made}"]
    return [f"  made = {made}", *late, "  return made"]


def _compile(
    lines: list[str], names: dict[str, Any], name: str
) -> Callable[[Any], Any]:
    code = compile("\n".join(lines), f"<generated {name} of {names['cls']}>", "exec")
    exec(code, names)  # noqa: S102  # our own lines; the user's names are identifiers
    function: Callable[[Any], Any] = names[name]
    return function
