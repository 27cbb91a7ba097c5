"""All that talks to a backend. It runs in a process of its own beside Blender's (core/client_process.py), never within."""
