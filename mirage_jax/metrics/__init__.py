"""The metrics: leaf functions on arrays (`text`, `choices`, `vision`, `attempts`) and their facts (`facts`)."""
