"""What the extension knows without Blender: cameras, axes, the client, the life of a job."""
