"""MLflow's REST protocol over the same services as the graph: its clients track to Trellis unmodified."""
