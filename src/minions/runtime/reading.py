"""Reads classes and configs before anything starts; knows what is provided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from minions.declare.config import load_config
from minions.declare.kinds import kinds_of
from minions.declare.system import ProvidedSpec, Spec, specify_all
from minions.errors import ConfigError, DefinitionError
from minions.identity import component_identity, provided_identity
from minions.store.codec import converter

__all__ = ["Factory", "Reader", "Reading"]

Factory = Callable[[], AbstractAsyncContextManager[Any]]


class Reading:
    """What was read of some classes, before anything is started."""

    def __init__(self, specs: dict[str, Spec], configs: dict[str, object]) -> None:
        self.specs: dict[str, Spec] = specs
        self.configs: dict[str, object] = configs


class Reader:
    """What is provided and configured; reads what is to be started."""

    def __init__(self, running: Mapping[str, Spec], *, durable: bool) -> None:
        self._running = running
        self._durable = durable
        self.provided: dict[tuple[type, str | None], Factory] = {}
        self._sources: dict[type, object] = {}

    def provide(self, cls: type, factory: Factory, name: str | None) -> None:
        """Make instances of *cls* from elsewhere injectable."""
        if not isinstance(cls, type) or not callable(factory):
            raise DefinitionError(
                f"gru.provide: expected a class and a factory without arguments, found"
                f" {cls!r} and {factory!r}"
            )
        identity = provided_identity(cls, name)
        if identity in self._running:
            raise DefinitionError(
                f"{identity}: expected gru.provide before the first start that needs"
                " it, found that it is running; call it earlier"
            )
        self.provided[cls, name] = factory

    def configure(self, cls: type, source: object) -> None:
        """Set where the config of a component comes from."""
        identity = component_identity(cls)
        if "minion" in kinds_of(cls):
            raise ConfigError(
                f"{identity}: expected a resource or a pipeline to configure, found a"
                " minion; give its config where it is started: to start_minion, or"
                " under [[orchestration]] in minions.toml"
            )
        if identity in self._running:
            raise ConfigError(
                f"{identity}: expected gru.configure before the start, found that it"
                " is running; call it earlier"
            )
        self._sources[cls] = source

    def read(self, roots: Iterable[type], configs: dict[type, object]) -> Reading:
        """Read classes and all that they need; nothing starts.

        Raises:
            DefinitionError: A class cannot run as it is declared.
            ConfigError: A config does not fit, or is missing.
        """
        specs = specify_all(roots, self.provided, durable=self._durable)
        for identity, spec in specs.items():
            known = self._running.get(identity)
            if known is not None and known.cls is not spec.cls:
                raise DefinitionError(
                    f"{identity}: expected one class of this identity in a Gru, found"
                    f" two: {_address(spec.cls)}, while {_address(known.cls)} runs; put"
                    " another @component_id above one of them"
                )
        return Reading(specs, {i: self._config(s, configs) for i, s in specs.items()})

    def _config(self, spec: Spec, configs: dict[type, object]) -> object:
        if isinstance(spec, ProvidedSpec):
            return None
        source = configs.get(spec.cls, self._sources.get(spec.cls))
        if source is None:
            if spec.config is None or spec.config.has_default:
                return None
            return self._default_config(spec.identity, spec.config.type)
        if spec.config is None:
            raise ConfigError(
                f"{spec.identity}: expected no config, found {source!r}; declare"
                " `config: Settings` on the class, or give none"
            )
        return load_config(spec.config.type, source, converter, component=spec.identity)

    @staticmethod
    def _default_config(identity: str, config_type: type) -> object:
        try:
            return load_config(config_type, {}, converter, component=identity)
        except ConfigError as exc:
            raise ConfigError(
                f"{identity}: expected a config of type {config_type.__qualname__},"
                f" found none, and not every field has a default; give it to"
                " start_minion, call gru.configure before the start, or add it to"
                " minions.toml"
            ) from exc


def _address(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
