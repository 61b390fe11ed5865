"""Items: the signals, images, recordings and texts of a version, read from an archive or from one file, with their features.

An item's bytes stay where they are: a member of an uploaded ZIP or tar is read by its place in the file. What has no such place, as a member of a
compressed tar or a column of one file, is written to the pack, a second file that is stored with the version.
"""
