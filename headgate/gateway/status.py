"""What a gateway follows, has loaded and is busy with, as plain JSON."""

import os
from dataclasses import asdict
from typing import Any

from headgate.gateway.gateway import Gateway
from headgate.gateway.routes import Route


def status(gateway: Gateway) -> dict[str, Any]:
    """The whole gateway, model by model."""
    follower, place = gateway.follower, gateway.place
    return {
        "models": {route.model: _model(gateway, route) for route in gateway.routes.all()},
        "registry": {
            "reached_at": follower.reached_at and follower.reached_at.isoformat(),
            "problem": follower.problem,
        },
        "hears_cutoffs": gateway.listener.connected,
        "shadow": {"waiting": gateway.shadow.depth, "dropped": gateway.shadow.dropped},
        "in_flight": gateway.requests.depth,
        "worker": {"index": place.index, "of": place.workers, "pid": os.getpid()},
        "log": asdict(gateway.log.stats),
    }


def _model(gateway: Gateway, route: Route) -> dict[str, Any]:
    serving, split = gateway.service.serving(route.model), route.split
    compiled = {
        version: served.compiled.form if served.compiled is not None else None
        for version in gateway.shelf.loaded(route.model)
        if (served := gateway.shelf.get(route.model, version)) is not None
    }
    return {
        "champion": route.champion,
        "serving": serving.version if serving else None,
        "challenger": route.challenger,
        "shadow": route.shadow,
        "rollout_id": split.rollout_id,
        "revision": split.revision,
        "weights": {} if route.alarm else {v: w for v, w in split.weights.items() if v in route.live},
        "holdback": {route.held: split.holdback[route.held]} if route.held else {},
        "excluded": {column: list(values) for column, values in split.excluded.items()},
        "frozen": split.frozen,
        "cut_off": route.cut,
        "undone": route.undone,
        "event_gate": gateway.gates.status(route.model),
        "alarm": route.alarm,
        "source": route.source,
        "since": route.since.isoformat(),
        "loaded": gateway.shelf.loaded(route.model),
        "compiled": compiled,
        "not_loaded": gateway.shelf.troubles(route.model),
    }
