"""What a run is, in files of its folder; and the run of such a folder, whose batches can be made again."""
