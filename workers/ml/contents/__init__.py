"""The contents of a version's items, one by one: images, recordings and signals as arrays, and the operations on them that pipelines run."""
