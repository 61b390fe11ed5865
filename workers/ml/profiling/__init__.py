"""Statistical profile of a table.

Up to 5 M rows everything is exact, with one batch of columns in memory at a time. Above, distinct counts, quantiles, top values and
duplicates are estimated by sketches in constant memory; row and missing counts, moments, extremes and histograms stay exact.

Definitions for both: NaN is missing. Mean and standard deviation (n - 1 in the denominator) cover the values that are not missing, and
are null if infinities make them undefined. Quantiles interpolate linearly between order statistics. Histograms have up to 30 bins of
equal width over the finite values, half-open except the last; edges of dates and times are seconds since 1970-01-01 UTC, those of
durations and times of day seconds. Decimals count and rank exactly; their mean, deviation, quantiles and histogram are of doubles. Distinct
counts exclude missing. A duplicate row equals an earlier row in every column, missing equal to missing. Texts and rows are compared by
64-bit hashes.
"""

from workers.ml.profiling.profiler import profile_parquet
from workers.ml.profiling.report import ColumnReport, ProfileReport

__all__ = ["ColumnReport", "ProfileReport", "profile_parquet"]
