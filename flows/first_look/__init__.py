"""A folder of files to a dataset entry and a profile: what the files are, what they count, sizes that fit them."""
