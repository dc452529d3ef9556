"""Generate the functions that store and read the instances of one class.

Each class gets two functions of straight-line code, as attrs and dataclasses make
theirs: a loop over fields costs several times as much, and every event and every
step pays.  The fast code only finds that something is wrong; what and where is
found by going through the fields again, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minions.store.codec_fields import Field, Shape
from minions.store.codec_kinds import BadValueError, Kind, mismatch

__all__ = ["ClassKind"]

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

    def complete(self, shape: Shape, kinds: Sequence[Kind]) -> None:
        """Give it its fields, and make its two functions.

        Apart from the construction because a class may be a field of its own.
        """
        self.shape, self.kinds = shape, kinds
        self.encode: Callable[[Any], Any] = self._generate_encode(shape)
        self.decode: Callable[[Any], Any] = self._generate_decode(shape)

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
            source = f"value.{field.name}"
            lines += _load(i, source, kind, role="encode", names=names)
        pairs = [f"{f.name!r}: v{i}" for i, f in enumerate(shape.fields)]
        lines += [" except Exception as exc:", "  raise locate(value, exc) from exc"]
        lines += [f" return {{{', '.join(pairs)}}}"]
        return _compile(lines, names, "encode")

    def _generate_decode(self, shape: Shape) -> Callable[[Any], Any]:
        names: dict[str, Any] = {
            "cls": shape.cls,
            "slow": self._decode_slowly,
            "set_field": shape.set_field,
            "mismatch": mismatch,
        }
        if not shape.constructor:
            return lambda data: self._decode_slowly(data, None)
        lines = ["def decode(data):", " try:", "  pass"]
        for i, (field, kind) in enumerate(zip(shape.fields, self.kinds, strict=True)):
            lines += _load(i, f"data[{field.name!r}]", kind, role="decode", names=names)
        arguments = [
            f"{field.alias}=v{i}" if field.kw_only else f"v{i}"
            for i, field in enumerate(shape.fields)
            if field.init
        ]
        lines += [f"  made = cls({', '.join(arguments)})"]
        # A missing field, or anything that is wrong.
        lines += [" except Exception as exc:", "  return slow(data, exc)"]
        lines += [
            f" set_field(made, {field.name!r}, v{i})"
            for i, field in enumerate(shape.fields)
            if shape.restore or not field.init
        ]
        return _compile([*lines, " return made"], names, "decode")

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
            raise BadValueError("the data is nested too deeply", where=self.name)
        if type(data) is not dict:
            raise mismatch(self.name, data)
        assert self.shape is not None
        found: dict[str, Any] = {}
        for field, kind in zip(self.shape.fields, self.kinds, strict=True):
            if field.name in data:
                found[field.name] = self._decode_field(field, kind, data[field.name])
            elif field.init and field.default is None:
                raise BadValueError(
                    "expected a value, found none in the stored data; give the field"
                    " a default",
                    where=f"{self.name}.{field.name}",
                )
        return self._make(self.shape, found)

    def _decode_field(self, field: Field, kind: Kind, data: Any) -> Any:
        where = f"{self.name}.{field.name}"
        try:
            return kind.decode(data)
        except BadValueError as exc:
            raise BadValueError(exc.what, where=exc.where or where) from exc
        except Exception as exc:
            raise BadValueError(f"{type(exc).__name__}: {exc}", where=where) from exc

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


def _given(field: Field, found: dict[str, Any]) -> bool:
    return field.init and field.name in found


def _load(
    index: int, source: str, kind: Kind, *, role: str, names: dict[str, Any]
) -> list[str]:
    if not kind.plain:
        # A class that contains itself has its functions only later.
        if isinstance(kind, ClassKind):
            names[f"k{index}"] = kind
            return [f"  v{index} = k{index}.{role}({source})"]
        names[f"f{index}"] = getattr(kind, role)
        return [f"  v{index} = f{index}({source})"]
    names[f"n{index}"] = kind.name
    lines = [f"  v{index} = {source}"]
    if len(kind.classes) > _MAX_COMPARED:
        names[f"c{index}"] = frozenset(kind.classes)
        test = f"type(v{index}) not in c{index}"
    else:
        for j, cls in enumerate(kind.classes):
            names[f"c{index}_{j}"] = cls
        test = " and ".join(
            f"type(v{index}) is not c{index}_{j}" for j in range(len(kind.classes))
        )
    return [*lines, f"  if {test}:", f"   raise mismatch(n{index}, v{index})"]


def _compile(
    lines: list[str], names: dict[str, Any], name: str
) -> Callable[[Any], Any]:
    code = compile("\n".join(lines), f"<generated {name} of {names['cls']}>", "exec")
    exec(code, names)  # noqa: S102  # our own lines; the user's names are identifiers
    function: Callable[[Any], Any] = names[name]
    return function
