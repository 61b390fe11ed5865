"""What a table holds, in numbers.

Exact up to 5 M rows, one column in memory at a time. Above, row, missing and moment counts, extremes and histograms stay
exact, while distinct counts, quantiles, top values and duplicates come from sketches, and memory no longer grows.

Definitions, the same in both: NaN is missing. Mean and standard deviation (n - 1 in the denominator) run over the values
that are not missing, and are null where infinities make them undefined. Quantiles interpolate linearly between order
statistics. Histograms have up to 30 bins of equal width over the finite values, all but the last half open; the edges of
dates and times are seconds since 1970-01-01 UTC. Distinct counts leave missing out. A duplicate row is one that an earlier
row equals in every column, missing equal to missing; distinct texts and rows are told apart by 64-bit hashes.
"""

from workers.ml.profiling.profiler import profile_parquet
from workers.ml.profiling.report import ColumnReport, ProfileReport

__all__ = ["ColumnReport", "ProfileReport", "profile_parquet"]
