"""Work on a Dask cluster: its client, and the models that its workers hold."""
