"""MVDream and ImageDream: their UNet and pipelines written anew for `diffusers`, and readers for the published weights.

Nothing is imported here: `diffusers` and `transformers` are optional, and are loaded when a generator is made.
"""
