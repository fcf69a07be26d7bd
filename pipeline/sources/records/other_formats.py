"""What a record file is, by how it begins, where it is not of the format that was asked for. Pure."""

_BEGINNINGS = ((0, b"PK\3\4", "a zip file (stoker.zip, or stoker.npy if np.savez wrote it)"),
               (0, b"\x93NUMPY", "an npy file (stoker.npy)"), (0, b"\x89HDF\r\n\x1a\n", "a HDF5 file (stoker.hdf5)"),
               (257, b"ustar", "a tar file (stoker.tar)"), (0, b"\x1f\x8b", "compressed with gzip (gunzip FILE)"),
               (0, b"BZh", "compressed with bzip2 (bunzip2 FILE)"), (0, b"\xfd7zXZ", "compressed with xz (unxz FILE)"),
               (0, b"PAR1", "a Parquet file (stoker-pack converts it)"),
               (0, b"\xff\xd8\xff", "a picture: give the folder of the pictures"),
               (0, b"\x89PNG\r\n", "a picture: give the folder of the pictures"))
MIN_BYTES = 262         # that tell all of them


def seems(head: bytes) -> str:
    """The end of a sentence that says what a file with this beginning is; '' if it is not known."""
    for place, mark, kind in _BEGINNINGS:
        if head.startswith(mark, place):
            return "; it seems to be " + kind
    return ""
