"""Programs for those who work on dvctl; not shipped."""
