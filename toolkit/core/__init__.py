"""Errors, recipes, registries, folders and clocks: what every floor stands on."""
