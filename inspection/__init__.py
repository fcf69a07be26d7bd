"""Programs by which people look at a run and its data: the batch of a step, a dataset before a run, a run in a terminal."""
