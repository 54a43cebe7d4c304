"""The machinery under the public modules: flows, drivers, connections. Nothing here is public."""
