"""napari: layers, the session and the docks. Imports nothing: the manifest names modules."""
