"""dvctl's own configuration file: writing, checking and choosing profiles."""
