"""What stoker-pack reads: a folder of pictures, TFRecords, tars, zips and Parquet files, each as an ``Input``."""
