"""Which state folder a command is about, and who uses it."""

from __future__ import annotations

import argparse
from pathlib import Path

import attrs

from minions.cli.system_file import read_system_file
from minions.control import ControlError, Owner, find_owner
from minions.options import GruOptions
from minions.runtime.wire import read_holder
from minions.store.reading import look_into, open_reader
from minions.workflow.layout import Keyspace

__all__ = ["Place", "place_of"]

# Seconds: longer than any end has been kept.
_FOR_EVER = 1e12
# Seconds: a look can do without what only the process knows.
_SHORT = 2.0


@attrs.frozen
class Place:
    """A state folder."""

    path: Path
    options: GruOptions | None
    """What minions.toml says; ``None``: the folder was named without it."""

    def owner(self) -> Owner | None:
        """Return the process that uses it, if one does.

        Raises:
            ControlError: There is one, and it does not answer.
        """
        return find_owner(self.path)

    def look(self) -> tuple[Owner | None, bool]:
        """Return the process that uses it, if that answers, and whether there is one.

        A look at the store needs no answer.
        """
        try:
            owner = find_owner(self.path, patience=_SHORT)
        except ControlError:
            return None, True
        return owner, owner is not None

    def holder(self) -> dict[str, object]:
        """Return what the process that uses it has written down of itself."""
        held = read_holder(self.path)
        return {name: held.get(name) for name in ("pid", "host", "started")}

    def options_to_open(self) -> GruOptions:
        """Return how to open it for a change while no process uses it."""
        if self.options is not None:
            return self.options
        # Whoever kept ends wants to keep them still; for how long is not known.
        with open_reader(self.path) as reader, reader.view() as view:
            kept = view.count(Keyspace.ENDED)
        return GruOptions(keep=_FOR_EVER if kept else 0.0, max_kept=max(1, 2 * kept))


def place_of(arguments: argparse.Namespace) -> Place:
    """Find the state folder that the arguments name.

    Raises:
        ConfigError: There is no minions.toml, or it does not fit.
        StoreError: There is no state folder.
    """
    if arguments.store is not None:
        place = Place(arguments.store.resolve(), None)
    else:
        file = read_system_file(arguments.folder)
        place = Place(file.state.resolve(), file.options)
    # Damage of the data is for whoever reads it to find.
    look_into(place.path, data=False)
    return place
