"""Files in and out: images, folders of posed views, GLB."""
