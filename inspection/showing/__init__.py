"""stoker-show: the batch of a step as the model saw it."""
