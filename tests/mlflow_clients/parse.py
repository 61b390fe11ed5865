"""Print as JSON what MLflow's own parser makes of the filters that are given: [type, key, comparator, value] of each clause."""
# pyright: reportMissingImports=false, reportMissingParameterType=false

import json
import sys

from mlflow.utils.search_utils import SearchUtils


def value(clause):
    given = clause["value"]
    if isinstance(given, tuple | list):
        return list(given)
    is_number = clause["type"] == "metric" or clause["key"] in SearchUtils.NUMERIC_ATTRIBUTES
    return float(given) if is_number else given


parsed = [SearchUtils.parse_search_filter(text) for text in sys.argv[1:]]
print(
    json.dumps([[[clause["type"], clause["key"], clause["comparator"].upper(), value(clause)] for clause in clauses] for clauses in parsed])
)
