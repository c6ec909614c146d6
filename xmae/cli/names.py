"""Names on the command line: what a setting may be, and what it was called before.

`CHOICES` says where the names of a setting's choices are, so that `--help` can list them. `RENAMED`
keeps old names working until 0.3; help does not show them.
"""

from importlib import import_module

from xmae.cli.sources import NotWritten, attributes_in, constant_in, names_in

CHOICES = {  # setting, or verb and setting: "module:collection, or function that gives one"
    "method": "xmae.objectives:OBJECTIVES",
    "methods": "xmae.evaluation.compare:METHODS",
    "recipe": "xmae.data.batches.batches:RECIPES",
    "strategy": "xmae.training.fit:STRATEGIES",
    "pretrain precision": "xmae.training.fit:PRECISIONS",
    "mask": "xmae.objectives.masks:SHAPES",
    "curriculum": "xmae.objectives.xmae:CURRICULA",
    "logger": "xmae.training.loggers:PACKAGES",
    "architecture": "xmae.models.adopted.registry:ARCHITECTURES",
    "tier": "xmae.distill.distill:STUDENTS",
    "loss": "xmae.distill.losses:LOSSES",
    "fusion": "xmae.models.fusion:FUSIONS",
    "tune": "xmae.evaluation.fusion.fuse:TUNES",
    "tasks": "xmae.evaluation.protocol.tasks:TASKS",
    "polarity": "xmae.signals.polarity:POLARITIES",
    "probe protocol": "xmae.evaluation.probe:PROTOCOLS",
    "evaluate protocol": "xmae.evaluation.probe:PROTOCOLS",
    "engine": "xmae.data.prepare.prepare:ENGINES",
    "observer": "xmae.quantize.observers:OBSERVERS",
    "quantize targets": "xmae.export.int8:FORMATS",
    "targets": "xmae.export.targets.registry:known_targets",
    "precisions": "xmae.export.targets.registry:known_precisions",
    "device": "xmae.firmware_sim.cost.profile:device_names",
    "bench devices": "xmae.firmware_sim.cost.profile:device_names",
    "emulator": "xmae.firmware_sim.emulators.registry:NEEDS",
    "rhythm": "xmae.twin.people:RHYTHMS",
    "embed target": "xmae.cli.embed:TARGETS",
    "embed precision": "xmae.cli.embed:PRECISIONS",
    "embed model": "xmae.models.checkpoint:SHIPPED_NAMES",
}
REGISTRIES = {  # place: package, attribute of its classes, entry points of others
    "xmae.objectives:OBJECTIVES": ("xmae.objectives", "name", "xmae.methods"),
    "xmae.export.targets.registry:known_targets": ("xmae.export.targets", "name", "xmae.targets"),
    "xmae.export.targets.registry:known_precisions": (
        "xmae.export.targets", "precisions", "xmae.targets",
    ),
    "xmae.export.int8:FORMATS": ("xmae.export.targets", "name", "xmae.targets"),
}  # fmt: skip
RENAMED = {  # verb: {old name: new name}, until 0.3
    "embed": {"runtime": "target"},
    "bench": {"record_reference": "record_baseline", "reference": "baseline"},
    "validate": {"reference": "baseline"},
    "quantize": {"formats": "targets"},
    "simulate": {"list": "list_devices", "student": "model"},
}


def choices_of(verb: str, setting: str) -> tuple[str, ...]:
    """Return the names that a setting of a verb accepts; () if it accepts anything."""
    place = CHOICES.get(f"{verb} {setting}") or CHOICES.get(setting)
    if place is None:
        return ()
    try:
        return written(place)
    except NotWritten:
        module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except ImportError:  # the light runtime has no encoders to name
        return ()
    return tuple(found() if callable(found) else found)


def written(place: str) -> tuple[str, ...]:
    """Return the choices that are written in the source.

    Raises
    ------
    NotWritten
        If they are worked out, or other packages add to them.
    """
    module, _, name = place.partition(":")
    if place not in REGISTRIES:
        return names_in(module, name)
    from importlib.metadata import entry_points  # slow to import

    package, attribute, group = REGISTRIES[place]
    if entry_points(group=group):
        raise NotWritten(place)
    if name == "FORMATS":
        return attributes_in(package, attribute, "compare_layers")
    more = [constant_in(module, "SOURCE")] if name == "known_targets" else []
    return (*attributes_in(package, attribute), *more)


def present_name(verb: str, setting: str) -> str:
    """Return the current name of a setting."""
    return RENAMED.get(verb, {}).get(setting, setting)
