"""A fixed judge of finished meshes: what kind of thing it is, by a small network, and which colour, by a measured rule."""
