"""K-means on Dask arrays: a counterpart of `_solve` for data that are never in one place."""
