"""How sure a potential is of its predictions: by an ensemble, or by the last layer of one network."""
