"""Write versions in other formats: row group by row group, so that memory does not grow with the rows, and the same bytes each time."""
