"""Record files (TFRecord, tar, zip, npy, HDF5): what is in them, found once, so that workers read bytes at a place."""
