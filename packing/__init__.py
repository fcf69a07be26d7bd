"""stoker-pack: folders, TFRecords, tars and Parquet files become tar shards that record sources read fast."""
