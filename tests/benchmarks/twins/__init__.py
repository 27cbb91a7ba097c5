"""The same operations as careful authors would write them elsewhere: peers that benchmarks build on the spot."""
