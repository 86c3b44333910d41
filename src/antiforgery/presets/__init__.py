"""Presets and knobs: named, versioned bundles of settings."""

from antiforgery.presets.settings import Preset, Settings, load, names, resolve

__all__ = ["Preset", "Settings", "load", "names", "resolve"]
