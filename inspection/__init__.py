"""Programs by which people look at a run and its data."""
