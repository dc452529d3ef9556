"""Kinds made of kinds: lists, tuples, sets, dicts, optional ones and unions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minions.store.codec_fields import UnusableError
from minions.store.codec_kinds import (
    NOTHING_ELSE,
    BadValueError,
    Kind,
    checker,
    mismatch,
)

__all__ = ["dict_kind", "optional_kind", "sequence_kind", "tuple_kind", "union_kind"]

_ARRAY = frozenset({list})
_PAIR = 2


def sequence_kind(cls: Any, item: Kind) -> Kind:
    """Store a list, a set, a frozenset or a tuple of any length."""
    name = f"{cls.__name__}[{item.name}{', ...' if cls is tuple else ''}]"
    return Kind(
        name=name,
        classes=(cls,),
        wire=_ARRAY,
        tag=cls.__name__,
        encode=_writer(cls, name, item),
        decode=_reader(cls, name, item),
    )


def _writer(cls: Any, name: str, item: Kind) -> Callable[[Any], Any]:
    allowed = frozenset(item.classes)

    def encode_plain(value: Any) -> Any:
        if type(value) is not cls:
            raise mismatch(name, value)
        if not allowed.issuperset(map(type, value)):
            raise _bad_item(name, allowed, value)
        return value

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            raise mismatch(name, value)
        # Looked up at each call: a class that contains itself gets its own last.
        write = item.encode
        return [write(part) for part in value]

    return encode_plain if item.plain else encode


def _reader(cls: Any, name: str, item: Kind) -> Callable[[Any], Any]:
    allowed = frozenset(item.classes)
    same = cls is list

    def decode_plain(data: Any) -> Any:
        if type(data) is not list:
            raise mismatch(name, data)
        if not allowed.issuperset(map(type, data)):
            raise _bad_item(name, allowed, data)
        return data if same else cls(data)

    def decode(data: Any) -> Any:
        if type(data) is not list:
            raise mismatch(name, data)
        read = item.decode
        made = [read(part) for part in data]
        return made if same else cls(made)

    return decode_plain if item.plain else decode


def _bad_item(
    name: str, allowed: frozenset[type], values: Iterable[object]
) -> BadValueError:
    bad = next(value for value in values if type(value) not in allowed)
    return mismatch(f"the items of {name}", bad)


def tuple_kind(items: Sequence[Kind]) -> Kind:
    """Store a tuple of as many items as there are kinds."""
    name = f"tuple[{', '.join(item.name for item in items) or '()'}]"
    count = len(items)

    def encode(value: Any) -> Any:
        if type(value) is not tuple:
            raise mismatch(name, value)
        if len(value) != count:
            raise BadValueError(f"expected {name}, found {len(value)} items")
        return [item.encode(part) for item, part in zip(items, value, strict=True)]

    def decode(data: Any) -> Any:
        if type(data) is not list:
            raise mismatch(name, data)
        if len(data) != count:
            raise BadValueError(f"expected {name}, found {len(data)} items")
        return tuple(
            [item.decode(part) for item, part in zip(items, data, strict=True)]
        )

    return Kind(
        name=name,
        classes=(tuple,),
        wire=_ARRAY,
        tag="tuple",
        encode=encode,
        decode=decode,
    )


def dict_kind(key: Kind, value: Kind) -> Kind:  # noqa: C901  # four small functions
    """Store a dict: a map if its keys are text, else an array of pairs."""
    name = f"dict[{key.name}, {value.name}]"
    as_map = key.plain and key.classes == (str,)

    def encode_map(found: Any) -> Any:
        if type(found) is not dict:
            raise mismatch(name, found)
        for part in found:
            if type(part) is not str:
                raise mismatch(f"the keys of {name}", part)
        return {k: value.encode(v) for k, v in found.items()}

    def encode_pairs(found: Any) -> Any:
        if type(found) is not dict:
            raise mismatch(name, found)
        return [[key.encode(k), value.encode(v)] for k, v in found.items()]

    def decode_map(data: Any) -> Any:
        if type(data) is not dict:
            raise mismatch(name, data)
        return {key.decode(k): value.decode(v) for k, v in data.items()}

    def decode_pairs(data: Any) -> Any:
        if type(data) is not list:
            raise mismatch(name, data)
        try:
            return {key.decode(k): value.decode(v) for k, v in data}
        except (TypeError, ValueError) as exc:
            raise BadValueError(f"expected {name}, found no pairs: {exc}") from exc

    return Kind(
        name=name,
        classes=(dict,),
        wire=frozenset({dict}) if as_map else _ARRAY,
        tag="dict",
        encode=encode_map if as_map else encode_pairs,
        decode=decode_map if as_map else decode_pairs,
    )


def optional_kind(inner: Kind) -> Kind:
    """Store ``None`` beside what *inner* stores."""
    if NOTHING_ELSE in inner.classes:
        return inner

    # Looked up at each call: a class that contains itself gets its functions last.
    def encode(value: Any) -> Any:
        return None if value is None else inner.encode(value)

    def decode(data: Any) -> Any:
        return None if data is None else inner.decode(data)

    kind = Kind(
        name=f"{inner.name} | None",
        classes=(*inner.classes, NOTHING_ELSE),
        wire=inner.wire | {NOTHING_ELSE},
        own=inner.own,
        plain=inner.plain,
        tagged=inner.tagged,
        tag=inner.tag,
        encode=encode,
        decode=decode,
    )
    if kind.plain:
        kind.encode = kind.decode = checker(kind)
    return kind


def union_kind(members: Sequence[Kind]) -> Kind:
    """Store one of several kinds, with a tag unless its form tells it.

    Raises:
        UnusableError: Two of them have values of the same class.
    """
    name = " | ".join(member.name for member in members)
    by_class = _by_class(members, name)
    kind = Kind(
        name=name,
        classes=tuple(by_class),
        wire=frozenset[type]().union(*(member.wire for member in members)),
        own=sum(member.own for member in members),
        plain=all(member.plain for member in members),
    )
    shared = sum(len(member.wire) for member in members) > len(kind.wire)
    if kind.plain:
        kind.encode = kind.decode = checker(kind)
    elif shared or any(member.tagged for member in members):
        kind.wire = _ARRAY
        _tag(kind, members, by_class)
    else:
        by_form = {form: member for member in members for form in member.wire}
        kind.encode = lambda value: _pick(by_class, value, name).encode(value)
        kind.decode = lambda data: _pick(by_form, data, name).decode(data)
    return kind


def _by_class(members: Sequence[Kind], name: str) -> dict[type, Kind]:
    found: dict[type, Kind] = {}
    for member in members:
        if not member.classes:
            raise UnusableError(
                f"found the union {name}, whose member {member.name} has no class to"
                " tell its values by"
            )
        for cls in member.classes[: member.own]:
            if cls in found:
                raise UnusableError(
                    f"found the union {name}, whose values cannot be told apart: two"
                    f" members are of {cls.__name__}; use two classes"
                )
            found[cls] = member
    for member in members:
        for cls in member.classes[member.own :]:
            found.setdefault(cls, member)
    return found


def _tag(kind: Kind, members: Sequence[Kind], by_class: dict[type, Kind]) -> None:
    tags = _tags_of(members)
    by_tag = {tag: member for member, tag in zip(members, tags, strict=True)}
    if len(by_tag) < len(members):
        raise UnusableError(
            f"found the union {kind.name}, two members of which have the same name;"
            " rename one"
        )
    tag_of = {id(member): tag for tag, member in by_tag.items()}
    table = {cls: (tag_of[id(member)], member) for cls, member in by_class.items()}
    name = kind.name

    def encode(value: Any) -> Any:
        try:
            tag, member = table[type(value)]
        except KeyError:
            raise mismatch(name, value) from None
        return [tag, member.encode(value)]

    def decode(data: Any) -> Any:
        if type(data) is not list or len(data) != _PAIR:
            raise mismatch(f"a tag and a value of {name}", data)
        tag, part = data
        member = by_tag.get(tag) if type(tag) is str else None
        if member is None:
            raise BadValueError(f"expected {name}, found one with the tag {tag!r}")
        return member.decode(part)

    kind.encode, kind.decode = encode, decode


def _tags_of(members: Sequence[Kind]) -> list[str]:
    # The class's name alone, so that it may move; with its module where two share it.
    short = [member.tag or member.name for member in members]
    return [
        tag if short.count(tag) == 1 else f"{member.classes[0].__module__}:{tag}"
        for tag, member in zip(short, members, strict=True)
    ]


def _pick(table: dict[type, Kind], value: Any, name: str) -> Kind:
    try:
        return table[type(value)]
    except KeyError:
        raise mismatch(name, value) from None
