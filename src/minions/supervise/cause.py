"""Why a component drains: the chain from it to the origin."""

from __future__ import annotations

import enum

import attrs
import trio

from minions.errors import ComponentBroken
from minions.notices import leaves_of

__all__ = ["Cause", "CauseKind", "is_same", "own_failure"]

# How many links of a long chain are shown, at either end.
_SHOWN = 3


class CauseKind(enum.Enum):
    """The first reason for which a component begins to drain."""

    CRASH = "crashed"
    START_FAILED = "did not start"
    DEPENDENCY = "lost what it needs"
    STOP = "was stopped"
    RESTART = "was restarted"
    ENDED = "ended"
    CANCELLED = "was cancelled from outside"


def _depth_of(cause: Cause) -> int:
    return 0 if cause.origin is None else cause.origin.depth + 1


def _roots_of(cause: Cause) -> tuple[Cause, ...]:
    below = cause.origin
    if below is None or len(below.roots) == _SHOWN:
        return () if below is None else below.roots
    return (*below.roots, below)


# Compared by identity: a chain may be longer than what Python can recurse into.
@attrs.frozen(eq=False)
class Cause:
    """One link of the chain of causes.

    ``hard`` says that running work is cancelled at once; it is inherited along
    the chain, since what was lost at the origin is lost for all dependents.
    ``str()`` shows a long chain by its two ends, and costs the same for any length.
    """

    kind: CauseKind
    component: str
    epoch: int
    hard: bool
    text: str = ""
    origin: Cause | None = attrs.field(default=None, repr=False)
    # How many links lie between it and the beginning of all, that one included.
    depth: int = attrs.field(
        init=False, repr=False, default=attrs.Factory(_depth_of, takes_self=True)
    )
    # The links nearest to the beginning of all, from there on; without itself.
    roots: tuple[Cause, ...] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_roots_of, takes_self=True)
    )

    @property
    def root(self) -> Cause:
        """The beginning of all."""
        return self.roots[0] if self.roots else self

    def passed_on(self, component: str, epoch: int) -> Cause:
        """Return the cause for the dependents of *component*, which drains for this."""
        return Cause(CauseKind.DEPENDENCY, component, epoch, self.hard, origin=self)

    def __str__(self) -> str:
        links = [self]
        while links[-1].origin is not None and len(links) < 2 * _SHOWN:
            links.append(links[-1].origin)
        hidden = self.depth + 1 - 2 * _SHOWN
        if hidden <= 0:
            return "".join(map(_told, links))
        near, far = links[:_SHOWN], reversed(self.roots)
        more = f"… {hidden} more …: "
        return f"{''.join(map(_told, near))}{more}{''.join(map(_told, far))}"


def _told(link: Cause) -> str:
    """Tell one link, up to where the next one goes on."""
    name = f"{link.component}#{link.epoch}" if link.epoch else link.component
    if link.origin is not None:
        # The origin's own text begins with the same name.
        same = link.origin.component == link.component
        return "dependency " if same else f"dependency {name}: "
    said = f"{name} {link.kind.value}" if name else link.kind.value
    return f"{said}: {link.text}" if link.text else said


def is_same(exc: BaseException, known: BaseException | None) -> bool:
    """Say whether *exc* tells nothing that *known* does not, only by another way."""
    told = {id(leaf) for leaf in leaves_of(known)} if known is not None else set()
    return all(id(leaf) in told for leaf in leaves_of(exc))


def own_failure(exc: BaseException, frame: trio.Nursery) -> BaseException:
    """Return what a hook's exception tells; one made of cancellations alone raises.

    Unless no scope around the hook was cancelled: trio has not delivered it then,
    and raised on, it would cancel what is around it and be lost there.

    Args:
        exc: What has left all cancel scopes between the hook and *frame*.
        frame: The nursery of the incarnation; a shield is around it.
    """
    if not all(isinstance(leaf, trio.Cancelled) for leaf in leaves_of(exc)):
        return exc
    if frame.cancel_scope.cancel_called:
        raise exc
    broken = ComponentBroken(
        "its code raised a trio.Cancelled, but nothing had cancelled it: expected it"
        " only where trio delivers it, found one that was kept from elsewhere; let a"
        " Cancelled pass at once, and never keep it to raise it again"
    )
    broken.__cause__ = exc
    return broken
