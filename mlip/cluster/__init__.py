"""Work on a Dask cluster: a client of one, and models that its workers keep."""
