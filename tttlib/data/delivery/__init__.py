"""Getting published datasets and checking them: archives, download, unpacking, checksums."""
